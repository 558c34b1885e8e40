"""The sheet of a config's data: what is on it, and that any split and wrapper can be shown."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmskin.config import load_config
from mmskin.datasets import browse
from mmskin.datasets.browse import browse_dataset, read_samples
from mmskin.registry import DATASETS
from mmskin.visualization.view_sheet import view_sheet

OPTIONS = {f'{split}_dataloader.dataset.pipeline.0.size': 40 for split in ('train', 'val', 'test')}


@pytest.fixture
def cfg(repository, root):
    return load_config(repository / 'configs/fpm/r18_synthetic.py', data_root=str(root), options=OPTIONS)


@pytest.fixture
def drawn(monkeypatch):
    """What would be drawn."""
    sheets = []
    monkeypatch.setattr(browse, 'view_sheet', lambda *arguments: sheets.append(arguments))
    return sheets


def test_a_sheet_is_drawn(cfg, tmp_path):
    ids = browse_dataset(cfg, count=3, views=2, out_file=tmp_path / 'new' / 'sheet.png')
    assert ids == ['SYN_0000000', 'SYN_0000002', 'SYN_0000005']
    sheet = cv2.imread(str(tmp_path / 'new' / 'sheet.png'))
    assert sheet.shape[:2] == (400, 900)  # 2 x 2 samples of 3 views of 150 pixels; rows of 175, and 50 for the title
    red = (sheet[..., 2] > 200) & (sheet[..., :2] < 60).all(axis=2)
    assert red.sum() > 500, 'no outlines'


def test_originals_labels_and_views(cfg, drawn):
    browse_dataset(cfg, count=6, views=2)
    samples, out_file, title = drawn[0]
    assert [sample.label for sample in samples] == ['melanoma', 'nevus', 'seborrheic_keratosis'] * 2
    first = samples[0]
    assert first.original.image.shape == (48, 64, 3)
    assert first.original.mask.shape == (48, 64)
    assert [(view.image.shape, view.mask.shape) for view in first.views] == [((40, 40, 3), (40, 40))] * 2
    assert not np.array_equal(first.views[0].image, first.views[1].image)
    assert title.startswith('r18_synthetic.py, train: ')


def test_the_views_are_those_of_a_training(cfg, drawn):
    browse_dataset(cfg, count=6, views=2)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.set_epoch(1)
    seen = dataset[4]['inputs'].permute(1, 2, 0).numpy()
    assert np.array_equal(drawn[0][0][4].views[1].image, seen)


def test_another_seed_gives_other_views(cfg, drawn):
    for seed in (0, 1):
        cfg.randomness = dict(seed=seed)
        browse_dataset(cfg, count=1, views=1)
    one, other = (sheet[0][0].views[0].image for sheet in drawn)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize('split', ['val', 'test'])
def test_other_splits(cfg, drawn, split):
    assert len(browse_dataset(cfg, split, count=9, views=1)) == 3
    assert drawn[0][0][0].views[0].mask.shape == (48, 64), 'scored at its own size'


def test_samples_without_a_mask_or_a_diagnosis(cfg, drawn, root, tmp_path):
    (root / 'ISIC-2017_Training_Part1_GroundTruth').rename(tmp_path / 'masks')
    (root / 'ISIC-2017_Training_Part3_GroundTruth.csv').unlink()
    cfg.train_dataloader.dataset.partial_labels = True
    browse_dataset(cfg, count=1, views=1)
    sample = drawn[0][0][0]
    assert (sample.label, sample.original.mask, sample.views[0].mask) == ('', None, None)
    view_sheet([sample], tmp_path / 'sheet.png', 'title')
    assert (tmp_path / 'sheet.png').is_file()


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ConcatDataset', 'ClassBalancedDataset'])
def test_datasets_in_wrappers(cfg, drawn, wrapper):
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        RepeatDataset=dict(type='RepeatDataset', dataset=inner, times=2),
        ConcatDataset=dict(type='ConcatDataset', datasets=[inner, inner]),
        ClassBalancedDataset=dict(type='ClassBalancedDataset', dataset=inner, oversample_thr=0.1),
    )[wrapper]
    browse_dataset(cfg, count=2, views=2)
    views = drawn[0][0][1].views
    assert not np.array_equal(views[0].image, views[1].image), 'the epoch reaches the dataset inside'


@pytest.mark.parametrize(('name', 'drawable'), [('x.PNG', True), ('x.svg', True), ('x.abc', False), ('x', False)])
def test_a_format_is_refused_before_anything_is_read(cfg, monkeypatch, drawn, name, drawable):
    if drawable:
        browse_dataset(cfg, count=1, views=1, out_file=name)
        return
    monkeypatch.setattr(DATASETS, 'build', lambda cfg: pytest.fail('read'))
    with pytest.raises(ValueError, match=f'{name}: .* is no format'):
        browse_dataset(cfg, count=1, views=1, out_file=name)


def test_a_config_without_the_split():
    with pytest.raises(ValueError, match='has no val_dataloader; choose another split'):
        browse_dataset(Config(dict(val_dataloader=None)), 'val')


def test_a_pipeline_that_packs_nothing(cfg):
    cfg.train_dataloader.dataset.pipeline.pop()
    with pytest.raises(ValueError, match="last step has to be 'PackTaskSample'"):
        browse_dataset(cfg, count=1)


def test_nothing_to_show(cfg):
    with pytest.raises(ValueError, match='nothing to show'):
        read_samples(DATASETS.build(cfg.train_dataloader.dataset), 0, 1)
