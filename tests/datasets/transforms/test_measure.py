"""Diameter and irregularity of shapes whose values are known, and of masks that are warped with their images."""

import math

import numpy as np
import pytest

from mmskin.datasets.transforms.loading import PackTaskSample
from mmskin.datasets.transforms.processing import MeasureLesion, RandomWarp
from mmskin.masks import diameter, irregularity


def disc(radius, centre=(100, 100), side=201):
    y, x = np.mgrid[:side, :side]
    return ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2).astype(np.uint8)


def drawing(*rows):
    """A mask from rows of dots and hashes."""
    return np.array([[cell == '#' for cell in row] for row in rows], dtype=np.uint8)


def measure(mask, **results):
    image = np.zeros((*mask.shape, 3), np.uint8)
    return MeasureLesion()({'img': image, 'img_shape': mask.shape, 'gt_seg_map': mask, **results}).get('gt_values')


def test_the_diameter_of_a_disc():
    assert diameter(disc(80)) == pytest.approx(160 / 201, abs=1e-3)


def test_the_diameter_of_a_square():
    """A quarter of the frame: as large as a disc of diameter sqrt(4 / pi / 4)."""
    square = np.zeros((20, 20), np.uint8)
    square[5:15, 5:15] = 1
    assert diameter(square) == pytest.approx(math.sqrt(1 / math.pi))


@pytest.mark.parametrize('radius', [1, 3, 10.5, 33.3, 80])
def test_pixels_make_no_disc_irregular(radius):
    assert irregularity(disc(radius, (100.2, 99.7))) == 0


@pytest.mark.parametrize(
    ('mask', 'expected'),
    [
        (drawing('....', '.##.', '.##.', '....'), 0),
        (drawing('#...', '#...', '#...', '####'), 1 - 7 / 10),  # the hull is the triangle's 4 + 3 + 2 + 1
        (drawing('#.#', '###', '#.#'), 1 - 7 / 9),
        (drawing('###', '#.#', '###'), 1 - 8 / 9),  # a hole
        (drawing('#..#'), 1 - 2 / 4),  # two pieces on a line
        (drawing('#...', '....', '...#'), 1 - 2 / 2),  # two pieces, with no pixel between them
        (drawing('...', '.#.', '...'), 0),
    ],
)
def test_irregularity_by_hand(mask, expected):
    assert irregularity(mask) == pytest.approx(expected)


def test_a_notch_grows_with_its_depth():
    values = []
    for depth in (0, 20, 40, 60):
        mask = disc(80)
        mask[20 : 20 + depth, 90:111] = 0
        values.append(irregularity(mask))
    assert values == sorted(values)
    assert len({*values}) == 4


def test_a_reflected_piece_is_no_part_of_the_lesion():
    mask = disc(40)
    assert measure(mask | disc(10, (190, 190))).tolist() == measure(mask).tolist()


def test_values_stay_when_the_image_is_squashed():
    mask = disc(60, (100, 120)) | disc(40, (60, 60))
    wide = np.repeat(mask, 2, axis=1)
    np.testing.assert_allclose(measure(wide), measure(mask), atol=0.01)


def test_a_large_mask_is_measured_at_the_images_size():
    """Teeth of one pixel are not to be seen in an image of a tenth of the side."""
    mask = np.zeros((200, 200), np.uint8)
    mask[50:150, 50:150] = 1
    mask[45:50, 50:150:4] = 1
    assert irregularity(mask) > 0.03
    assert measure(mask, img_shape=(20, 20)).tolist() == [pytest.approx(math.sqrt(1 / math.pi)), 0]


def test_the_target_is_that_of_the_warped_image():
    """A disc in the picture too: what is measured on the mask is what the image shows, cropped and zoomed."""
    mask = disc(30)
    results = dict(img=np.repeat(mask[..., None], 3, axis=2) * 255, gt_seg_map=mask)
    np.random.seed(0)
    values, shown = [], []
    for _ in range(5):
        warped = MeasureLesion()(RandomWarp(100, crop=(0.6, 1.0), zoom=(0.8, 1.2))(dict(results)))
        values.append(warped['gt_values'][0])
        shown.append(diameter((warped['img'][..., 0] > 127).astype(np.uint8)))
    np.testing.assert_allclose(values, shown, atol=0.01)
    assert max(values) > 1.1 * min(values)


@pytest.mark.parametrize('results', [{}, {'gt_seg_map': np.zeros((4, 4), np.uint8)}])
def test_without_a_lesion_there_is_nothing_to_learn(results):
    image = np.zeros((4, 4, 3), np.uint8)
    packed = PackTaskSample()(MeasureLesion()({'img': image, 'img_shape': (4, 4), **results}))
    assert 'gt_values' not in packed['data_samples']


def test_the_values_are_packed():
    results = dict(img=np.zeros((4, 4, 3), np.uint8), img_shape=(4, 4), gt_seg_map=np.ones((4, 4), np.uint8))
    values = PackTaskSample()(MeasureLesion()(results))['data_samples'].gt_values
    assert values.tolist() == [pytest.approx(math.sqrt(4 / math.pi)), 0]
    assert str(values.dtype) == 'torch.float32'
