"""A training that takes seconds: the demo's config at 48 pixels on a handful of images."""

import pytest
from narrow import NARROW

from mmskin.datasets.synthetic import SyntheticLesions


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    SyntheticLesions(seed=5, shape=(48, 64)).write(root, num_train=12, num_val=7, num_test=11)
    return root


@pytest.fixture(scope='session')
def tiny():
    """Options that make ``configs/fpm/r18_synthetic.py`` small: a narrow network, two epochs of three steps a stage."""
    sizes = {f'{name}_dataloader.dataset.pipeline.0.size': 48 for name in ('train', 'val', 'test')}
    workers = {f'{name}_dataloader.num_workers': 0 for name in ('train', 'val', 'test')}
    return {
        **NARROW,
        **sizes,
        **workers,
        'train_dataloader.batch_size': 4,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 2,
        'default_hooks.logger.interval': 1,
        'default_hooks.visualization.num_images': 1,
    }
