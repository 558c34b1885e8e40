"""A suite that takes seconds: two networks, two seeds, one epoch at 48 pixels."""

import pytest
from narrow import NARROW

from mmskin.datasets.synthetic import SyntheticLesions

SUITE = """
title = 'Tiny'
seeds = [0, 1]
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'seg/JA']
options = {options}
methods = [
    dict(name='gated sum', config='{configs}/fpm/r18_synthetic.py', paper={{'seg/JA': 0.787}}),
    dict(name='with flips', config='{configs}/fpm/r18_synthetic.py', weights_of='gated sum', options=dict(tta=True)),
    dict(name='no passing', config='{configs}/multitask/r18_synthetic.py', note='shares its beginning'),
]
"""
OPTIONS = {
    **NARROW,
    **{f'{part}_dataloader.dataset.pipeline.0.size': 48 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.persistent_workers': False for part in ('train', 'val')},
    'train_dataloader.batch_size': 4,
    'train_cfg.max_epochs': 1,
    'train_cfg.val_interval': 2,
    'default_hooks.checkpoint.save_optimizer': False,
    'test_evaluator': [
        dict(type=f'{kind}Metric') for kind in ('Classification', 'Segmentation', 'ISIC2017Classification')
    ],
    'stages': None,
}


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'set'
    SyntheticLesions(seed=5, shape=(48, 64)).write(root, num_train=8, num_val=3, num_test=9)
    return root


@pytest.fixture(scope='session')
def write_suite(repository):
    """Write the suite to a path."""

    def write(path):
        path.write_text(SUITE.format(options=OPTIONS, configs=repository / 'configs'))
        return path

    return write


@pytest.fixture
def suite_file(tmp_path, write_suite):
    """The path of the suite."""
    return write_suite(tmp_path / 'tiny.py')
