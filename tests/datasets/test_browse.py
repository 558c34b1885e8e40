"""The sheet of a config's data: what is on it, and that any split and wrapper can be shown."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmskin.config import load_config
from mmskin.datasets.browse import browse_dataset, read_samples
from mmskin.errors import Mistake
from mmskin.registry import DATASETS

OPTIONS = {f'{split}_dataloader.dataset.pipeline.0.size': 40 for split in ('train', 'val', 'test')}


@pytest.fixture
def cfg(repository, root):
    return load_config(repository / 'configs/fpm/r18_synthetic.py', data_root=str(root), options=OPTIONS)


def test_a_sheet_is_drawn(cfg, tmp_path):
    ids = browse_dataset(cfg, count=3, views=2, out_file=tmp_path / 'new' / 'sheet.png')
    assert ids == ['SYN_0000000', 'SYN_0000002', 'SYN_0000005']
    sheet = cv2.imread(str(tmp_path / 'new' / 'sheet.png'))
    assert sheet.shape[:2] == (400, 900)  # 2 x 2 samples of 3 views of 150 pixels; rows of 175, and 50 for the title
    red = (sheet[..., 2] > 200) & (sheet[..., :2] < 60).all(axis=2)
    assert red.sum() > 500, 'no outlines'


def test_originals_labels_and_views(cfg):
    samples = read_samples(cfg, 'train', count=6, views=2)
    assert [sample.label for sample in samples] == ['melanoma', 'nevus', 'seborrheic_keratosis'] * 2
    first = samples[0]
    assert first.original.image.shape == (48, 64, 3)
    assert [mask.shape for mask in first.original.masks.values()] == [(48, 64)]
    assert [(view.image.shape, view.masks['gt_sem_seg'].shape) for view in first.views] == [((40, 40, 3), (40, 40))] * 2
    assert not np.array_equal(first.views[0].image, first.views[1].image)


def test_the_views_are_those_of_a_training(cfg):
    samples = read_samples(cfg, 'train', count=6, views=2)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.set_epoch(1)
    seen = dataset[4]['inputs'].permute(1, 2, 0).numpy()
    assert np.array_equal(samples[4].views[1].image, seen)


def test_another_seed_gives_other_views(cfg):
    images = []
    for seed in (0, 1):
        cfg.randomness = dict(seed=seed)
        [sample] = read_samples(cfg, 'train', count=1, views=1)
        images.append(sample.views[0].image)
    assert not np.array_equal(*images)


@pytest.mark.parametrize('split', ['val', 'test'])
def test_other_splits(cfg, split):
    samples = read_samples(cfg, split, count=9, views=1)
    assert len(samples) == 3
    assert samples[0].views[0].masks['gt_sem_seg'].shape == (48, 64), 'scored at its own size'


def test_samples_without_a_mask_or_a_diagnosis(cfg, root, tmp_path):
    (root / 'ISIC-2017_Training_Part1_GroundTruth').rename(tmp_path / 'masks')
    (root / 'ISIC-2017_Training_Part3_GroundTruth.csv').unlink()
    cfg.train_dataloader.dataset.partial_labels = True
    [sample] = read_samples(cfg, 'train', count=1, views=1)
    assert (sample.label, sample.original.masks, sample.views[0].masks) == ('', {}, {})
    browse_dataset(cfg, count=1, views=1, out_file=tmp_path / 'sheet.png')
    assert (tmp_path / 'sheet.png').is_file()


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ConcatDataset', 'ClassBalancedDataset'])
def test_datasets_in_wrappers(cfg, wrapper):
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        RepeatDataset=dict(type='RepeatDataset', dataset=inner, times=2),
        ConcatDataset=dict(type='ConcatDataset', datasets=[inner, inner]),
        ClassBalancedDataset=dict(type='ClassBalancedDataset', dataset=inner, oversample_thr=0.1),
    )[wrapper]
    views = read_samples(cfg, 'train', count=2, views=2)[1].views
    assert not np.array_equal(views[0].image, views[1].image), 'the epoch reaches the dataset inside'


@pytest.mark.parametrize('name', ['x.PNG', 'x.svg'])
def test_formats(cfg, tmp_path, name):
    browse_dataset(cfg, count=1, views=1, out_file=tmp_path / name)
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize('name', ['x.abc', 'x'])
def test_a_format_is_refused_before_anything_is_read(name):
    """A config without loaders is an error of its own, which would come first."""
    with pytest.raises(ValueError, match=f'{name}: .* is not a format'):
        browse_dataset(Config(), out_file=name)


def test_no_file_of_the_data_is_replaced(cfg, root):
    image = next(root.rglob('SYN_*.png'))
    before = image.read_bytes()
    with pytest.raises(Mistake, match=f'{image.name} is in the data folder and would be replaced'):
        browse_dataset(cfg, out_file=image)
    assert image.read_bytes() == before


def test_a_config_without_the_split():
    with pytest.raises(ValueError, match='has no val_dataloader; choose another split'):
        browse_dataset(Config(dict(val_dataloader=None)), 'val')


def test_a_pipeline_that_packs_nothing(cfg):
    cfg.train_dataloader.dataset.pipeline.pop()
    with pytest.raises(ValueError, match="last step has to be 'PackTaskSample'"):
        browse_dataset(cfg, count=1)


def test_nothing_to_show(cfg):
    for numbers in (dict(count=0), dict(views=0)):
        with pytest.raises(ValueError, match='nothing to show'):
            browse_dataset(cfg, **numbers)


def test_what_a_link_leads_to_stays(cfg, tmp_path):
    (tmp_path / 'mine.png').write_text('mine')
    (tmp_path / 'sheet.png').symlink_to(tmp_path / 'mine.png')
    browse_dataset(cfg, count=1, views=1, out_file=tmp_path / 'sheet.png')
    assert (tmp_path / 'mine.png').read_text() == 'mine'
    assert cv2.imread(str(tmp_path / 'sheet.png')) is not None and not (tmp_path / 'sheet.png').is_symlink()
