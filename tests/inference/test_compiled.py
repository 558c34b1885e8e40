"""Predictions by OpenVINO, prepared once on a machine."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
import pytest
import torch
from narrow import SLIM

from mmskin.config import load_config
from mmskin.errors import Mistake
from mmskin.inference.compiled import kept
from mmskin.inference.inferencer import LesionInferencer
from mmskin.models.averaging import networks_in
from mmskin.packaging.publish import publish_weights
from mmskin.registry import MODELS

pytest.importorskip('openvino', reason="openvino is not installed: pip install '.[openvino]'")


@pytest.fixture
def model(repository, tmp_path, monkeypatch):
    """A model folder without passing, at 48 pixels, of random weights; what is prepared goes into an empty cache."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    options = {**SLIM, 'test_dataloader.dataset.pipeline.0.size': 48}
    cfg = load_config(repository / 'configs/multitask/r18_synthetic.py', options=options)
    torch.manual_seed(0)
    torch.save({'state_dict': MODELS.build(cfg.model).state_dict()}, tmp_path / 'weights.pth')
    folder = publish_weights(cfg, tmp_path / 'weights.pth', tmp_path / 'plain')
    folder.card.write_text('')
    return folder.config.parent


def answers(model, device, images):
    inferencer = LesionInferencer(model, device=device, tta=True)
    found = inferencer(images, lesion_probability=True)
    numbers = np.array([[*one.probabilities.values()] for one in found])
    return networks_in(inferencer.network)[0].compiled, numbers, np.stack([one.lesion_probability for one in found])


def test_prepared_once_it_is_the_default_with_the_same_answers(model, tmp_path, capfd):
    images = [np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8) for number in range(3)]
    compiled, numbers, maps = answers(model, None, images)
    assert compiled is None and 'preparing' not in capfd.readouterr().err  # nobody asked for it
    for device, says in (('openvino', True), ('openvino', False), (None, False)):
        compiled, others, other_maps = answers(model, device, images)
        assert compiled is not None and ('preparing' in capfd.readouterr().err) is says
        assert abs(numbers - others).max() < 1e-4 and abs(maps - other_maps).max() < 1e-4
    assert answers(model, 'cpu', images)[0] is None

    (features,) = (tmp_path / 'cache' / 'mmskin' / 'openvino').glob('*.features')
    content = bytearray(features.read_bytes())
    content[-1] ^= 1  # OpenVINO would not notice
    features.write_bytes(content)
    assert answers(model, None, images)[0] is not None and 'preparing' in capfd.readouterr().err
    features.unlink()
    features.mkdir()  # nothing can be read or written there, as where a disk is full
    compiled, others, _ = answers(model, 'openvino', images)
    assert compiled is not None and abs(numbers - others).max() < 1e-4


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='this system has no pipes')
def test_a_pipe_in_the_cache_is_named_and_not_waited_for(tmp_path):
    kept_at, pipe = tmp_path / 'kept', tmp_path / 'pipe'
    os.mkfifo(pipe)
    os.link(pipe, kept_at)
    writer = Thread(target=pipe.write_bytes, args=(b'',))
    writer.start()
    with pytest.raises(Mistake, match='kept: a device or a pipe'):
        kept(torch.nn.Flatten(), torch.nn.Module.__call__, [torch.ones(3, 2, 2)], 2, kept_at, required=True)
    os.close(os.open(pipe, os.O_RDONLY))  # which lets the writer end
    writer.join()


def test_what_it_cannot_run_is_refused(half_folder):
    with pytest.raises(Mistake, match='passes features; give device="cpu"'):
        LesionInferencer(half_folder.config.parent, device='openvino')


@pytest.mark.parametrize('place', ['x' * 300, None])  # a name that no disk takes, and no home
def test_where_the_cache_cannot_be_looked_at_pytorch_predicts(model, place, monkeypatch):
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setattr(Path, 'home', no_home)
    if place:
        monkeypatch.setenv('XDG_CACHE_HOME', place)
    for one in (None, model):
        assert not any(part.compiled for part in networks_in(LesionInferencer(one).network))


def no_home():
    raise RuntimeError('Could not determine home directory.')


@pytest.fixture(scope='module')
def shipped():
    """The cache in which the model that comes with mmskin was prepared without asking, and that model."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:  # below tmp_path others see nothing
        patch.setenv('XDG_CACHE_HOME', folder)
        yield folder, LesionInferencer()


def test_a_model_that_comes_with_mmskin_is_prepared_without_asking_if_it_can_be_kept(shipped, tmp_path, monkeypatch):
    _, fast = shipped
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    (tmp_path / 'cache').write_text('')  # no folder can be made below it
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    plain = LesionInferencer()
    assert not any(part.compiled for part in networks_in(plain.network))
    assert all(part.compiled for part in networks_in(fast.network))
    expected, found = (one(image, lesion_probability=True) for one in (plain, fast))
    assert abs(expected.lesion_probability - found.lesion_probability).max() < 1e-4
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
    assert found.novelty == pytest.approx(expected.novelty, rel=1e-4)


@pytest.mark.skipif(not hasattr(os, 'setresuid'), reason='rights can be given up for a while on Linux alone')
def test_what_another_user_prepared_is_used_where_nothing_can_be_written(shipped, monkeypatch, capfd):
    folder, _ = shipped
    monkeypatch.setenv('XDG_CACHE_HOME', folder)
    for place, mode in ((folder, 0o755), (f'{folder}/mmskin', 0o755), (f'{folder}/mmskin/openvino', 0o555)):
        os.chmod(place, mode)
    is_root = os.geteuid() == 0
    try:
        if is_root:
            os.setresuid(65534, 65534, 0)
        asked, unasked = LesionInferencer(device='openvino'), LesionInferencer()
    finally:
        if is_root:
            os.setresuid(0, 0, 0)
        os.chmod(f'{folder}/mmskin/openvino', 0o755)
    assert capfd.readouterr().err == ''
    assert all(part.compiled for one in (asked, unasked) for part in networks_in(one.network))
