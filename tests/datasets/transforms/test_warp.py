import cv2
import numpy as np
import pytest

from mmskin.datasets.transforms.processing import RandomWarp, affine, rotate, warp

NOTHING = {'crop': (1, 1), 'zoom': (1, 1), 'rotation': 0, 'flip': 0}


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 255, (8, 12, 3), np.uint8), (96, 64), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def disc():
    y, x = np.mgrid[:64, :96]
    return (np.hypot(x - 40, y - 30) < 20).astype(np.uint8)


def test_nothing_asked_for_changes_nothing(picture, disc):
    square, mask = np.ascontiguousarray(picture[:, :64]), np.ascontiguousarray(disc[:, :64])
    results = RandomWarp(64, **NOTHING)({'img': square, 'gt_seg_map': mask})
    assert np.array_equal(results['img'], square)
    assert np.array_equal(results['gt_seg_map'], mask)


def test_flips_are_exact(picture, disc):
    square, mask = np.ascontiguousarray(picture[:, :64]), np.ascontiguousarray(disc[:, :64])
    results = RandomWarp(64, **{**NOTHING, 'flip': 1})({'img': square, 'gt_seg_map': mask})
    assert np.array_equal(results['img'], square[::-1, ::-1])
    assert np.array_equal(results['gt_seg_map'], mask[::-1, ::-1])


def test_a_quarter_turn_is_exact(picture):
    square = np.ascontiguousarray(picture[:, :64])
    turned = warp(square, affine(rotate(np.pi / 2), [1, 0]), 64, cv2.INTER_LINEAR)
    assert np.array_equal(turned, np.rot90(square))


def test_resizing_alone_is_that_of_opencv(picture):
    results = RandomWarp(48, **NOTHING)({'img': picture})
    expected = cv2.resize(picture, (48, 48), interpolation=cv2.INTER_LINEAR)
    assert np.abs(results['img'].astype(int) - expected).max() <= 3


def test_a_crop_alone_is_a_slice(picture):
    window = affine(np.diag([0.5, 0.25]), np.array([0.25, 0.5]))
    expected = cv2.resize(picture[32:48, 24:72], (32, 32), interpolation=cv2.INTER_LINEAR)
    inside = np.s_[2:-2, 2:-2]  # at its edge the slice knows nothing of its neighbours
    assert np.abs(warp(picture, window, 32, cv2.INTER_LINEAR)[inside].astype(int) - expected[inside]).max() <= 3


def stepwise(image, corner, sides, zoom, angle, flips, size, interpolation):
    """The same by four resamplings of OpenCV's own: crop and resize, rotate and zoom, flip."""
    height, width = image.shape[:2]
    (left, top), (right, bottom) = corner, corner + sides
    image = image[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
    exact = {cv2.INTER_NEAREST: cv2.INTER_NEAREST_EXACT}.get(interpolation, interpolation)  # the other shifts by half
    image = cv2.resize(image, (size, size), interpolation=exact)
    centre = ((size - 1) / 2, (size - 1) / 2)
    turn = cv2.getRotationMatrix2D(centre, -np.degrees(angle), zoom)
    image = cv2.warpAffine(image, turn, (size, size), flags=interpolation, borderMode=cv2.BORDER_REFLECT)
    return image[:: flips[1], :: flips[0]]


@pytest.mark.parametrize('angle', [0.0, 0.4, -2.0])
@pytest.mark.parametrize('flips', [(1, 1), (-1, 1), (1, -1)])
def test_one_warp_is_the_steps_one_after_another(picture, disc, angle, flips):
    corner, sides, zoom = np.array([12 / 96, 8 / 64]), np.array([72 / 96, 48 / 64]), 1.3
    linear = rotate(-angle) / zoom @ np.diag(flips)
    matrix = affine(np.diag(sides), corner) @ affine(linear, 0.5 - linear @ [0.5, 0.5])
    once = warp(picture, matrix, 80, cv2.INTER_LINEAR).astype(int)
    steps = stepwise(picture, corner, sides, zoom, angle, flips, 80, cv2.INTER_LINEAR)
    assert np.abs(once - steps).mean() < 2.5  # of 255: resampling three times blurs
    mask = warp(disc, matrix, 80, cv2.INTER_NEAREST)
    assert (mask != stepwise(disc, corner, sides, zoom, angle, flips, 80, cv2.INTER_NEAREST)).mean() < 0.02


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('scale', [1, 2])
def test_image_and_mask_stay_aligned(disc, seed, scale):
    np.random.seed(seed)
    mask = cv2.resize(disc, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)  # at its own, larger size
    image = cv2.resize(disc * 255, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    results = RandomWarp(64)({'img': np.dstack([image] * 3), 'gt_seg_map': mask})
    seen = results['img'][..., 0] > 127
    assert (seen != results['gt_seg_map']).mean() < 0.02
    assert 0.1 < results['gt_seg_map'].mean() < 0.6


def test_masks_stay_binary(disc):
    results = RandomWarp(50)({'img': np.dstack([disc] * 3), 'gt_seg_map': disc})
    assert results['gt_seg_map'].dtype == np.uint8
    assert np.unique(results['gt_seg_map']).tolist() == [0, 1]
    assert results['img_shape'] == results['gt_seg_map'].shape == (50, 50)


def test_outside_the_frame_is_its_reflection():
    white = np.full((40, 40, 3), 255, np.uint8)
    results = RandomWarp(40, zoom=(0.5, 0.5), rotation=45)({'img': white})
    assert results['img'].min() == 255


def test_an_image_without_a_mask(picture):
    assert 'gt_seg_map' not in RandomWarp(32)({'img': picture})


def test_the_size_is_the_one_that_loading_states(picture):
    assert RandomWarp()({'img': picture, 'input_size': 24})['img'].shape == (24, 24, 3)


@pytest.mark.parametrize('arguments', [{'crop': (0.0, 1.0)}, {'crop': (0.9, 1.2)}, {'zoom': (1.2, 1.0)}])
def test_bad_ranges(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RandomWarp(32, **arguments)
