import gc
import logging
import os
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from narrow import SLIM

from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.packaging.publish import publish_weights
from mmskin.registry import MODELS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session', autouse=True)
def one_torch_thread():
    """Small tensors gain nothing from more, and results must not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='session', autouse=True)
def imports_are_no_garbage():
    """Or Python looks for garbage through all of torch, again and again."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_log_outlives_its_folder():
    """A passing test's folder is deleted; another library may close its log, and the next message opens it again."""
    yield
    logger = MMLogger.get_current_instance()
    for handler in [*logger.handlers]:
        if isinstance(handler, logging.FileHandler):
            logger.removeHandler(handler)
            handler.close()


@pytest.fixture(scope='session')
def repository():
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope='session')
def real_data():
    """The folder that holds ``isic2017_256`` and ``isic2017_native``; skips where there is none."""
    root = Path(os.environ.get('MMSKIN_TEST_DATA', ROOT.parent / 'shared' / 'data'))
    if not (root / 'isic2017_256').is_dir():
        pytest.skip(f'real images: no isic2017_256 in {root}; name its folder in MMSKIN_TEST_DATA')
    return root


# A model folder from random weights, tested on a handful of synthetic images.
SIZE = 48


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    SyntheticLesions(seed=5, shape=(48, 64)).write(root, num_train=3, num_val=12, num_test=3)
    return root


@pytest.fixture(scope='session')
def small_config(repository):
    """The demo's config at 48 pixels, with a slim network."""
    options = {**SLIM, 'test_dataloader.dataset.pipeline.0.size': SIZE, 'test_dataloader.num_workers': 0}
    return load_config(repository / 'configs/fpm/r18_synthetic.py', options=options)


@pytest.fixture(scope='session')
def checkpoint(small_config, tmp_path_factory):
    """A checkpoint as EMAHook has it saved: the average as ``state_dict``, next to it the plain weights."""
    init_default_scope('mmskin')
    torch.manual_seed(0)
    weights = MODELS.build(small_config.model).state_dict()
    for name in weights:
        if name.startswith('tasks.seg.head.branches') and name.endswith('weight'):
            weights[name] *= -30  # or no pixel would be lesion
    plain = {f'module.{name}': torch.zeros_like(tensor) for name, tensor in weights.items()}
    path = tmp_path_factory.mktemp('trained') / 'epoch_1.pth'
    torch.save({'state_dict': weights, 'ema_state_dict': plain, 'optimizer': {}, 'meta': {'epoch': 1}}, path)
    return path


@pytest.fixture(scope='session')
def half_folder(small_config, checkpoint, tmp_path_factory):
    """Its files, without a card as yet."""
    folder = publish_weights(small_config, checkpoint, tmp_path_factory.mktemp('models') / 'small', half=True)
    folder.card.write_text('')
    return folder


@pytest.fixture(scope='session')
def tested(half_folder, data_root, tmp_path_factory):
    """The work folder of a test of the model folder on the validation images, as tools/test.py makes it."""
    work_dir = tmp_path_factory.mktemp('tested')
    cfg = load_config(half_folder.config, str(work_dir), str(data_root))
    cfg.test_dataloader.dataset.split = 'val'
    evaluate_checkpoint(cfg, half_folder.weights)
    return work_dir
