"""What every step after segmentation keeps to, and what each one does."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmskin.models.heads import ASPPHead
from mmskin.models.tasks.segmentation import MaskStep, Segmentation
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

MODELS.import_from_location()
STEPS = sorted(
    name for name, kind in MODELS.module_dict.items() if isinstance(kind, type) and issubclass(kind, MaskStep)
)
RING = [
    [0, 0, 0, 0, 0, 0, 1],
    [0, 1, 1, 1, 0, 0, 0],
    [0, 1, 0, 1, 0, 0, 0],
    [0, 1, 1, 1, 0, 0, 0],
    [0, 0, 0, 0, 1, 0, 0],
]  # a ring with a tail at its corner, and a speck


def mask_of(rows):
    return np.array(rows, np.uint8)


def test_there_are_steps():
    assert {'FillHoles', 'LargestComponent', 'Dilate'} <= {*STEPS}


@pytest.mark.parametrize('name', STEPS)
@pytest.mark.parametrize('value', [0, 1])
def test_uniform_masks_stay(name, value):
    mask = np.full((5, 9), value, np.uint8)
    np.testing.assert_array_equal(MODELS.build(dict(type=name))(mask), mask)


@pytest.mark.parametrize('name', STEPS)
def test_gives_a_mask_and_leaves_its_argument(name):
    mask = (np.random.default_rng(0).random((31, 57)) > 0.6).astype(np.uint8)
    before = mask.copy()
    result = MODELS.build(dict(type=name))(mask)
    assert (result.dtype, result.shape) == (np.uint8, mask.shape)
    assert {*np.unique(result)} <= {0, 1}
    np.testing.assert_array_equal(mask, before)


def test_fills_what_is_enclosed_and_nothing_else():
    expected = mask_of(RING)
    expected[2, 2] = 1
    np.testing.assert_array_equal(MODELS.build(dict(type='FillHoles'))(mask_of(RING)), expected)


def test_a_bay_at_the_border_is_no_hole():
    bay = mask_of([[1, 0, 1], [1, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(MODELS.build(dict(type='FillHoles'))(bay), bay)


def test_large_holes_can_be_left():
    mask = np.ones((20, 20), np.uint8)
    mask[2:4, 2:4] = mask[10:16, 10:16] = 0
    filled = MODELS.build(dict(type='FillHoles', max_area=0.02))(mask)
    assert filled[2:4, 2:4].all()
    assert not filled[10:16, 10:16].any()


def test_keeps_the_largest_part():
    expected = mask_of(RING)
    expected[0, 6] = 0
    np.testing.assert_array_equal(MODELS.build(dict(type='LargestComponent'))(mask_of(RING)), expected)


def test_dilation_has_the_radius_of_its_fraction():
    mask = np.zeros((100, 50), np.uint8)
    mask[50, 25] = 1
    dilated = MODELS.build(dict(type='Dilate', radius=0.03))(mask)
    assert dilated[50].sum() == dilated[:, 25].sum() == 7


def decided(**options):
    task = Segmentation(head=dict(type=ASPPHead, in_channels=2), **options)
    sample = TaskSample(metainfo=dict(ori_shape=(5, 7)), task_prob=PixelData(data=torch.tensor([RING]).float()))
    task.decide(sample)
    return sample.task_mask.data


def test_off_by_default():
    assert decided().tolist() == [RING]


def test_steps_of_the_task_run_in_order():
    mask = decided(post=['FillHoles', dict(type='LargestComponent')])
    expected = torch.tensor([RING], dtype=torch.uint8)
    expected[0, 2, 2], expected[0, 0, 6] = 1, 0
    assert mask.dtype == torch.uint8
    assert torch.equal(mask, expected)
