"""Where models are looked for, and what is said if they are not there."""

import pytest

from mmskin.inference import zoo
from mmskin.inference.zoo import FILES, model_folder, shipped_models


def write(folder, names=FILES):
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text('x')
    return folder


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, 'ZOO', tmp_path / 'zoo')
    return write(tmp_path / 'zoo' / 'lite0_isic2017')


def test_the_default_is_a_shipped_model_wherever_one_works(shipped, tmp_path, monkeypatch):
    write(tmp_path / 'here' / 'lite0_isic2017')
    monkeypatch.chdir(tmp_path / 'here')
    assert shipped_models() == ['lite0_isic2017']
    assert model_folder().weights == shipped / 'weights.safetensors'
    assert model_folder('lite0_isic2017').config == shipped / 'config.py'
    assert model_folder('./lite0_isic2017').card.resolve() == tmp_path / 'here' / 'lite0_isic2017' / 'README.md'


def test_a_folder_by_its_path(tmp_path):
    folder = write(tmp_path / 'mine')
    assert model_folder(folder) == model_folder(str(folder)) == tuple(folder / name for name in FILES)


def test_an_unknown_model_lists_the_known(shipped):
    with pytest.raises(FileNotFoundError, match=r'resnet: no such folder, .* \(lite0_isic2017\)'):
        model_folder('resnet')


def test_an_incomplete_folder_says_what_is_there_and_what_is_not(tmp_path):
    folder = write(tmp_path / 'mine', ['config.py', 'epoch_1.pth'])
    with pytest.raises(FileNotFoundError, match=r'weights\.safetensors, README\.md missing, config\.py, epoch_1\.pth'):
        model_folder(folder)
