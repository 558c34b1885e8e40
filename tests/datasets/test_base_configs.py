from pathlib import Path

import pytest
from mmengine.config import Config

from mmskin.registry import DATASETS

BASE = Path(__file__).parents[2] / 'configs' / '_base_'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def built(cfg, loader, root):
    cfg[loader].dataset.data_root = str(root)
    return DATASETS.build(cfg[loader].dataset)


@pytest.mark.parametrize('name', ['isic2017', 'synthetic'])
def test_loaders_give_the_papers_input_size(root, name):
    cfg = Config.fromfile(BASE / f'{name}.py')
    for loader in LOADERS:
        packed = built(cfg, loader, root)[0]
        assert packed['inputs'].shape == (3, 233, 233)
        mask_shape = (1, 233, 233) if loader == 'train_dataloader' else (1, 48, 64)
        assert packed['data_samples'].gt_sem_seg.data.shape == mask_shape


def test_a_leaf_changes_the_size_in_one_place_per_loader(root, tmp_path):
    leaf = tmp_path / 'configs' / 'mine' / 'leaf.py'
    leaf.parent.mkdir(parents=True)
    (tmp_path / 'configs' / '_base_').symlink_to(BASE)
    leaf.write_text(
        'from mmengine.config import read_base\n'
        'with read_base():\n    from .._base_.synthetic import *\n'
        + ''.join(f'{loader}.dataset.pipeline[0].size = 40\n' for loader in LOADERS)
    )
    cfg = Config.fromfile(leaf)
    assert 'data/synthetic' in cfg.pretty_text
    assert [built(cfg, loader, root)[0]['inputs'].shape for loader in LOADERS] == [(3, 40, 40)] * 3


def test_the_command_line_changes_the_size(root):
    cfg = Config.fromfile(BASE / 'isic2017.py')
    cfg.merge_from_dict({'train_dataloader.dataset.pipeline.0.size': 48})
    assert built(cfg, 'train_dataloader', root)[0]['inputs'].shape == (3, 48, 48)
