"""A model folder from random weights, tested on a handful of synthetic images."""

import pytest
import torch
from mmengine.registry import init_default_scope

from mmskin.apis.config import load_config
from mmskin.apis.publish import publish_weights
from mmskin.apis.test import test_checkpoint as run_test
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.registry import MODELS

SIZE = 48


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    SyntheticLesions(seed=5, shape=(48, 64)).write(root, num_train=3, num_val=12, num_test=3)
    return root


@pytest.fixture(scope='session')
def small_config(repository):
    """The demo's config at 48 pixels."""
    options = {'test_dataloader.dataset.pipeline.0.size': SIZE, 'test_dataloader.num_workers': 0}
    return load_config(repository / 'configs/fpm/r18_synthetic.py', options=options)


@pytest.fixture(scope='session')
def checkpoint(small_config, tmp_path_factory):
    """A checkpoint as EMAHook has it saved: the average as ``state_dict``, and what training goes on from beside it."""
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
    run_test(cfg, half_folder.weights)
    return work_dir
