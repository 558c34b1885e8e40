"""Transforms of other packages, built from one line each: masks follow the image, or the transform is refused."""

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform

from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.datasets.task_dataset import TaskDataset
from mmskin.registry import TRANSFORMS

V2 = 'torchvision.transforms.v2'
FOLLOWED = [
    dict(type='mmcv.CenterCrop', crop_size=40),
    dict(type='mmcv.Pad', size=(80, 90)),
    dict(type='mmcv.RandomFlip', prob=1.0, direction='diagonal'),
    dict(type='mmcv.RandomApply', transforms=[dict(type='mmseg.RandomRotate', prob=1.0, degree=(90, 90))], prob=1.0),
    dict(type='mmcv.RandomChoice', transforms=[[dict(type='mmpretrain.Rotate', angle=90.0, prob=1.0, pad_val=190)]]),
    dict(type='mmseg.RandomCrop', crop_size=(30, 40)),
    dict(type='mmseg.RandomFlip', prob=1.0),
    dict(type='mmseg.RandomRotate', prob=1.0, degree=(30, 40)),
    dict(type='mmseg.RandomRotFlip', rotate_prob=1.0, flip_prob=0.0, degree=(90, 90)),
    dict(type='mmseg.Resize', scale=(40, 30), keep_ratio=False),
    dict(type='mmpretrain.EfficientNetCenterCrop', crop_size=40),
    dict(type='mmpretrain.RandomCrop', crop_size=30, padding=4),
    dict(type='mmpretrain.RandomResizedCrop', scale=40, crop_ratio_range=(0.6, 0.8)),
    dict(type='mmpretrain.ResizeEdge', scale=40),
    dict(type='mmpretrain.Rotate', angle=90.0, prob=1.0, pad_val=190),
    dict(type='mmpretrain.Shear', magnitude=0.3, prob=1.0, pad_val=190),
    dict(type='mmpretrain.Translate', magnitude=0.2, prob=1.0, pad_val=190),
    dict(type=f'{V2}.RandomAffine', degrees=(30, 40), translate=(0.1, 0.1), fill=190),
    dict(type=f'{V2}.RandomHorizontalFlip', p=1.0),
    dict(type=f'{V2}.RandomResizedCrop', size=(40, 30), scale=(0.6, 0.8)),
    dict(type=f'{V2}.Compose', transforms=[dict(type=f'{V2}.RandomRotation', degrees=(90, 90), fill=1)]),
    dict(type='albumentations.Rotate', limit=(30, 40), p=1.0, fill=190),
    dict(type='albumentations.OneOf', transforms=[dict(type='albumentations.VerticalFlip', p=1.0)], p=1.0),
]
PHOTOMETRIC = [
    dict(type='mmpretrain.ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
    dict(type='mmpretrain.Invert', prob=1.0),
    dict(type='mmpretrain.RandomErasing', erase_prob=1.0, mode='rand', max_area_ratio=0.3),
    dict(type='mmseg.AdjustGamma', gamma=2.0),
    dict(type=f'{V2}.ColorJitter', brightness=0.3, hue=0.1),
    dict(type='albumentations.GaussianBlur', blur_limit=(3, 15), p=1.0),
]


def kind(step):
    return step['type'] if isinstance(step, dict) else type(step).__name__


def build(step):
    if 'albumentations' in step['type']:
        pytest.importorskip('albumentations')
    return TRANSFORMS.build(step)


@pytest.fixture
def lesion():
    """A dark rectangle off the centre of a light image, its mask, and a second mask of its darker half."""
    mask = np.zeros((60, 70), np.uint8)
    mask[8:34, 12:40] = 1
    half = mask.copy()
    half[:, 26:] = 0
    image = (220 - 130 * mask - 40 * half)[..., None].repeat(3, axis=2)
    return dict(img=image, img_shape=(60, 70), ori_shape=(60, 70), gt_seg_map=mask, gt_globules=half)


@pytest.mark.parametrize('step', FOLLOWED, ids=kind)
def test_all_masks_follow_the_image(step, lesion):
    np.random.seed(3)
    torch.manual_seed(3)
    before = {key: lesion[key].copy() for key in ('img', 'gt_seg_map', 'gt_globules')}
    stack = np.stack([before['gt_seg_map'], before['gt_globules'] * 255])
    moved = build(step)({**lesion, 'gt_masks': stack})
    seen = moved['img'].max(axis=2)
    dark, darker = (seen > 30) & (seen < 155), (seen > 30) & (seen < 70)  # outside the frame it is 0, 1 or 190
    assert moved['img'].shape != before['img'].shape or not np.array_equal(moved['img'], before['img'])
    assert moved['img_shape'] == moved['img'].shape[:2]
    mask, half = moved['gt_seg_map'], moved['gt_globules']
    assert mask.dtype == np.uint8
    assert mask.shape == half.shape == dark.shape
    assert {*np.unique(mask)} == {0, 1}
    for found, shown in ((mask, dark), (half, darker)):
        assert (found & shown).sum() / (found | shown).sum() > 0.8
    assert np.array_equal(moved['gt_masks'], np.stack([mask, half * 255]))


@pytest.mark.parametrize('step', PHOTOMETRIC, ids=kind)
def test_colours_change_and_masks_stay(step, lesion):
    np.random.seed(3)
    before = {key: lesion[key].copy() for key in ('img', 'gt_seg_map')}
    moved = build(step)(lesion)
    assert not np.array_equal(moved['img'], before['img'])
    assert np.array_equal(moved['gt_seg_map'], before['gt_seg_map'])


def test_a_full_mask_follows_a_reduced_image(lesion):
    full = np.kron(lesion['gt_seg_map'], np.ones((4, 4), np.uint8))
    moved = build(dict(type='mmseg.RandomCrop', crop_size=(40, 40)))({**lesion, 'gt_seg_map': full})
    assert ((moved['img'][..., 0] < 220) == moved['gt_seg_map']).all()


def test_images_without_masks_are_moved_too(lesion):
    for step in (
        dict(type='mmseg.RandomFlip', prob=1.0),
        dict(type='mmpretrain.Rotate', angle=180.0, prob=1.0),
        dict(type=f'{V2}.RandomHorizontalFlip', p=1.0),
    ):
        moved = build(step)(dict(img=lesion['img'].copy(), img_shape=(60, 70)))
        assert {*moved} <= {'img', 'img_shape', 'flip', 'flip_direction', 'swap_seg_labels'}
        assert not np.array_equal(moved['img'], lesion['img'])


# Pipelines of a data set


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'synthetic'
    SyntheticLesions(seed=5, shape=(48, 64)).write(folder, num_train=2, num_val=0, num_test=0)
    return folder


class OfTheUser(BaseTransform):
    """A transform that its user wrote, which forgets the mask unless it is told what to give."""

    def __init__(self, gives=lambda results: {**results, 'img': np.ascontiguousarray(results['img'][::-1])}):
        self.gives = gives

    def transform(self, results):
        return self.gives(results)


def dataset(root, *steps, seed=0):
    class Listed(TaskDataset):
        def load_data_list(self):
            image = next(root.glob('*Training_Data/*.jpg'))
            mask = next(root.glob(f'*Training_Part1*/{image.stem}*.png'))
            return [dict(image_id=image.stem, img_path=str(image), seg_map_path=str(mask))]

    return Listed(root, [*steps, dict(type='PackTaskSample')], seed=seed)


LOAD = (dict(type='LoadImage', size=48), dict(type='LoadMask'))


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (
            dict(type='mmcv.Normalize', mean=[0.0] * 3, std=[1.0] * 3),
            r'mmcv\.Normalize gives float32 .*data_preprocessor',
        ),
        (dict(type='mmcv.LoadImageFromFile'), r'mmcv\.LoadImageFromFile .* use LoadImage'),
        (dict(type='mmpretrain.PackInputs'), r'mmpretrain\.PackInputs .* use PackTaskSample'),
        (dict(type='mmseg.RandomMosaic', prob=1.0), r'mmseg\.RandomMosaic does not work'),
        (
            dict(type='torchvision.transforms.RandomHorizontalFlip'),
            'leaves masks as they are; take torchvision.*v2',
        ),
        (dict(type=f'{V2}.RandAugment'), r'v2\.RandAugment does not work .*Mask.* use .* mmpretrain\.RandAugment'),
        (dict(type=f'{V2}.ToDtype', dtype=torch.float32, scale=True), r'v2\.ToDtype gives float32'),
        (OfTheUser(), 'OfTheUser moves the image and leaves the mask'),
        (OfTheUser(lambda results: None), 'OfTheUser returns None for every image; return the dict'),
        (OfTheUser(lambda results: 'image'), 'OfTheUser returns str; return the dict'),
        (OfTheUser(lambda results: {**results, 'gt_seg_map': None}), 'OfTheUser gives NoneType as gt_seg_map'),
    ],
    ids=kind,
)
def test_what_would_part_image_and_mask_is_refused_as_the_pipeline_is_built(step, message, root):
    with pytest.raises(ValueError, match=message):
        dataset(root, *LOAD, step)


def test_albumentations_mistakes(root):
    pytest.importorskip('albumentations')
    flip = dict(type='HorizontalFlip', p=1.0)
    with pytest.raises(ValueError, match=r'mmpretrain\.Albumentations moves the image .* use .* albumentations'):
        dataset(root, *LOAD, dict(type='mmpretrain.Albumentations', transforms=[flip]))
    with pytest.raises(ValueError, match=r"HorizontalFlip: Argument\(s\) 'q' are not valid"):
        dataset(root, *LOAD, dict(type='albumentations.HorizontalFlip', q=1.0))
    with pytest.raises(ValueError, match='less than or equal to 1'):
        dataset(root, *LOAD, dict(type='albumentations.HorizontalFlip', p=5.0))


@pytest.mark.parametrize('step', [dict(type='RandomWarp'), dict(type='mmcv.CenterCrop', crop_size=20)], ids=kind)
def test_a_mask_is_loaded_before_the_image_moves(step, root):
    image, mask = LOAD
    with pytest.raises(ValueError, match=f'{step["type"]} moves the image before LoadMask'):
        dataset(root, image, step, mask)
    dataset(root, image, step)  # without masks there is nothing to part


def test_a_mask_may_be_loaded_after_a_stretch(root):
    image, mask = LOAD
    assert len(dataset(root, image, dict(type='mmseg.Resize', scale=(40, 30), keep_ratio=False), mask))


@pytest.mark.parametrize(
    'step',
    [
        dict(type='albumentations.Affine', rotate=(-180, 180), p=1.0),
        dict(type=f'{V2}.RandomRotation', degrees=180),
        dict(type='mmseg.RandomRotate', prob=1.0, degree=180.0),
        dict(type='mmpretrain.Rotate', magnitude_range=(0.0, 180.0), magnitude_std='inf', prob=1.0),
    ],
    ids=kind,
)
def test_draws_are_those_of_the_sample(step, root):
    """A function of seed and epoch, whatever was drawn before, by the same data set or another."""
    build(step)
    first, again, other = (dataset(root, *LOAD, step, seed=seed) for seed in (1, 1, 2))
    first[0]
    torch.rand(3)
    images = [part[0]['inputs'] for part in (first, again, other)]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    first.set_epoch(1)
    assert not torch.equal(first[0]['inputs'], images[0])
