"""A model's name, wherever one is asked for."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from mmskin.cli import main
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.files import read_note
from mmskin.inference.zoo import model_folder

NAME = 'lite0_isic2017'


@pytest.fixture
def here(tmp_path, monkeypatch):
    SyntheticLesions(seed=3, shape=(48, 64)).write(tmp_path / 'data', num_train=3, num_val=3, num_test=6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_models_are_listed_with_those_in_folders(here, capsys):
    shutil.copytree(model_folder().config.parent, here / 'some' / 'mine')
    shutil.copytree(model_folder().config.parent, here / 'broken')
    (here / 'broken' / 'weights.safetensors').write_bytes(b'no weights')
    shutil.copytree(model_folder().config.parent, here / 'deep')
    head = b'{"__metadata__":{"classes":"%s"}}' % (b'[' * 100_000)
    (here / 'deep' / 'weights.safetensors').write_bytes(len(head).to_bytes(8, 'little') + head)
    assert main(['models']) == 0
    shipped, local = capsys.readouterr().out.split('configs to train')[0].split('models in this folder')
    assert f'{NAME}  15.' in shipped and 'trained by lite0_refit_isic2017: melanoma, nevus' in shipped
    assert 'some/mine  15.' in local
    assert 'broken  ' in local and 'damaged' in local
    assert 'deep/weights.safetensors: its classes are not a list of names' in local
    assert main(['models', 'nowhere']) == 2


def test_a_name_is_tested_reported_and_looked_into(here, capsys):
    quick = ['--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.dataset.pipeline.0.size=64']
    assert main(['report', NAME]) == 2
    assert f'run mmskin test {NAME}' in capsys.readouterr().err
    assert main(['test', NAME, '--data-root', 'data', '--no-tta', '--no-report', *quick]) == 0
    assert (here / 'work_dirs' / NAME / 'per_image.csv').is_file()
    note = json.loads((here / 'work_dirs' / NAME / 'test.json').read_text())
    assert (note['config'], note['checkpoint']) == (f'{NAME}/config.py', f'{NAME}/weights.safetensors')
    assert note['per_image'] == read_note(here / 'work_dirs' / NAME / 'results.json')['per_image']
    assert main(['gates', NAME, '--data-root', 'data', *quick]) == 2  # it has none
    assert 'this network passes no features' in capsys.readouterr().err


def test_a_name_is_published_again(here, capsys):
    assert main(['publish', NAME, 'mine', '--int8']) == 0
    assert 'novelty.safetensors: missing, or of other weights' in capsys.readouterr().out
    shutil.copy(model_folder().weights.with_name('novelty.safetensors'), 'mine')
    assert main(['publish', 'mine', 'mine', '--int8']) == 0
    assert 'novelty' not in capsys.readouterr().out
    assert (here / 'mine' / 'weights.safetensors').stat().st_size == model_folder().weights.stat().st_size
    assert 'The command is not recorded.' in (here / 'mine' / 'README.md').read_text()  # it was not trained by its name


def test_metafiles_name_every_config(repository):
    index = yaml.safe_load((repository / 'model-index.yml').read_text())
    models = [one for file in index['Import'] for one in yaml.safe_load((repository / file).read_text())['Models']]
    configs = {str(path.relative_to(repository)) for path in Path(repository, 'configs').glob('[!_]*/*.py')}
    assert len(models) > 30
    assert sorted(one['Config'] for one in models) == sorted(configs)
    assert all(one['Name'] == one['Config'].removeprefix('configs/').removesuffix('.py') for one in models)
