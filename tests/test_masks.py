"""Measurements of shapes whose values are known."""

import math

import cv2
import numpy as np
import pytest
from skimage.measure import regionprops

from mmskin.masks import borders_of, coco_segmentation, contours_of, measure_lesion, simplified


def rectangle(left, top, width, height, shape=(60, 80)):
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def disc(radius, shape=(400, 500)):
    mask = np.zeros(shape, np.uint8)
    cv2.circle(mask, (shape[1] // 2, shape[0] // 2), radius, 1, -1)
    return mask.astype(bool)


def triangle():
    mask = np.zeros((120, 120), np.uint8)
    cv2.fillPoly(mask, [np.array([(10, 100), (100, 100), (10, 20)])], 1)
    return mask.astype(bool)


def test_a_rectangle_by_hand():
    found = measure_lesion(rectangle(left=10, top=20, width=30, height=12))
    assert found.area == 360
    assert found.area_fraction == pytest.approx(360 / 4800)
    assert found.bounding_box == (10, 20, 30, 12)
    assert found.centroid == pytest.approx((24.5, 25.5))
    assert found.equivalent_diameter == pytest.approx(math.sqrt(4 * 360 / math.pi))
    assert found.max_feret_diameter == pytest.approx(math.hypot(30, 12))
    assert found.eccentricity == pytest.approx(math.sqrt(1 - (12 / 30) ** 2))
    assert (found.asymmetry, found.irregularity) == (0, 0)
    assert (found.num_components, found.touches_frame) == (1, False)


def test_a_pixel_by_hand():
    found = measure_lesion(rectangle(0, 0, 1, 1))
    assert (found.area, found.eccentricity, found.asymmetry, found.irregularity) == (1, 0, 0, 0)
    assert found.max_feret_diameter == pytest.approx(math.sqrt(2))
    assert found.touches_frame


def test_a_disc_is_round_smooth_and_symmetric():
    found = measure_lesion(disc(150))
    assert found.perimeter == pytest.approx(2 * math.pi * 150, rel=0.01)
    assert found.compactness == pytest.approx(1, abs=0.02)
    assert found.max_feret_diameter == pytest.approx(301, abs=1.5)
    assert found.eccentricity < 0.02
    assert found.asymmetry < 0.01
    assert found.irregularity == pytest.approx(0, abs=0.01)


def test_two_pixels_far_apart_are_symmetric():
    mask = np.zeros((4000, 4000), bool)
    mask[0, 3999] = mask[3999, 0] = True
    assert measure_lesion(mask).asymmetry == 0


def test_a_line_of_one_pixel_is_symmetric():
    """Scaled down it would have no height at all."""
    mask = np.zeros((768, 2000), bool)
    mask[300, 100:1200] = True
    assert measure_lesion(mask).asymmetry == 0


def test_a_right_angled_triangle_is_asymmetric():
    found = measure_lesion(triangle())
    assert found.asymmetry > 0.1
    assert found.irregularity == pytest.approx(0, abs=0.02)


def test_a_scaled_lesion_keeps_its_shape():
    small = triangle()
    large = cv2.resize(small.astype(np.uint8), None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    one, other = measure_lesion(small), measure_lesion(large)
    assert other.area == 64 * one.area
    assert other.max_feret_diameter == pytest.approx(8 * one.max_feret_diameter)
    assert other.asymmetry == pytest.approx(one.asymmetry, abs=0.02)  # on a mask of 512 pixels
    assert other.eccentricity == pytest.approx(one.eccentricity, abs=1e-3)


def test_a_notch_makes_the_border_irregular():
    notched = disc(150)
    notched[150:200, 250:] = False
    whole, cut = measure_lesion(disc(150)), measure_lesion(notched)
    assert cut.compactness > 1.3 * whole.compactness
    assert cut.irregularity > whole.irregularity + 0.05


def test_parts_and_frame():
    mask = rectangle(5, 5, 10, 10) | rectangle(40, 30, 40, 10)
    found = measure_lesion(mask)
    assert (found.num_components, found.touches_frame) == (2, True)
    assert found.area == 500


@pytest.mark.parametrize('seed', range(3))
def test_as_scikit_image_has_it(seed):
    axes, angle = np.random.default_rng(seed).integers(10, 60, 2), 37 * seed
    mask = np.zeros((200, 220), np.uint8)
    cv2.ellipse(mask, (110, 100), [int(axis) for axis in axes], angle, 0, 360, 1, -1)
    found, (theirs,) = measure_lesion(mask), regionprops(mask)
    assert found.centroid == pytest.approx(theirs.centroid[::-1])
    assert found.eccentricity == pytest.approx(theirs.eccentricity, abs=1e-3)
    assert found.max_feret_diameter == pytest.approx(theirs.feret_diameter_max, abs=1)
    assert found.irregularity == pytest.approx(1 - theirs.solidity, abs=0.02)


def test_no_lesion_has_no_measurements():
    mask = np.zeros((10, 10), bool)
    assert measure_lesion(mask) is None
    assert contours_of(mask) == []


def test_filled_contours_give_the_mask_back():
    mask = disc(150)
    mask[180:220, 230:270] = False
    mask |= rectangle(3, 4, 20, 10, mask.shape)
    contours = contours_of(mask)
    assert len(contours) == 3
    areas = [cv2.contourArea(np.array(contour)) for contour in contours]
    assert areas == sorted(areas, reverse=True)
    filled = cv2.fillPoly(np.zeros(mask.shape, np.uint8), [np.array(contour) for contour in contours], 1)
    assert (filled == mask).all()


def test_contours_of_holes_are_marked():
    """Also one of a single pixel, and a part of the lesion inside a hole."""
    mask = disc(150)
    mask[180:260, 200:280] = False
    mask |= rectangle(220, 200, 20, 30, mask.shape)
    mask[180, 150] = False
    marked = {polygon[0]: is_hole for polygon, is_hole in borders_of(mask)}
    assert [*marked.values()] == [False, True, False, True]
    assert [polygon for polygon, _ in borders_of(mask)] == contours_of(mask)


def test_contours_are_plain_numbers():
    assert contours_of(rectangle(2, 3, 4, 2)) == [[(2, 3), (2, 4), (5, 4), (5, 3)]]


def test_sizes_on_the_skin():
    """A rectangle of 40 x 30 pixels of 0.1 mm."""
    mask = rectangle(2, 3, 40, 30)
    plain, found = measure_lesion(mask), measure_lesion(mask, 0.1)
    assert plain.area_mm2 is None and plain.perimeter_mm is None
    assert found.area_mm2 == pytest.approx(12)
    assert found.max_feret_diameter_mm == pytest.approx(5)
    assert found.perimeter_mm == pytest.approx(plain.perimeter / 10)
    assert found.equivalent_diameter_mm == pytest.approx(plain.equivalent_diameter / 10)


def test_a_simplified_polygon_keeps_within_half_a_pixel():
    disc = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 80, 1, -1)
    (whole,) = contours_of(disc)
    simple = simplified(whole)
    assert len(simple) < len(whole) / 2
    assert max(abs(cv2.pointPolygonTest(np.array(simple, np.float32), point, True)) for point in whole) <= 0.5


def decoded(counts, shape):
    """Run lengths, column by column, beginning with those off the lesion."""
    values = np.arange(len(counts)) % 2
    return np.repeat(values, counts).reshape(shape, order='F').astype(bool)


@pytest.mark.parametrize('corner', [0, 1])
def test_coco_has_a_mask_with_a_hole_as_it_is(corner):
    mask = np.zeros((30, 40), bool)
    mask[5:20, 8:30] = True
    mask[10:14, 12:20] = False
    mask[0, 0] = mask[-1, -1] = bool(corner)
    found = coco_segmentation(mask)
    assert found['size'] == [30, 40]
    assert all(type(count) is int for count in found['counts'])
    np.testing.assert_array_equal(decoded(found['counts'], (30, 40)), mask)


def test_coco_polygons_go_along_the_border():
    mask = np.zeros((120, 160), np.uint8)
    cv2.ellipse(mask, (80, 50), (40, 25), 20, 0, 360, 1, -1)
    mask[100:, 150:] = 1  # a corner of the frame
    mask[110, 10] = 1  # a speck
    polygons = coco_segmentation(mask > 0)
    assert len(polygons) == 3 and all(len(one) % 2 == 0 and len(one) >= 8 for one in polygons)
    large = [np.round(np.reshape(one, (-1, 1, 2)) * 64 - 32).astype(np.int32) for one in polygons]
    area = sum(cv2.contourArea(np.float32(one).reshape(-1, 2)) for one in polygons)
    assert area == pytest.approx(mask.sum(), rel=0.01)
    assert np.concatenate(polygons).min() >= 0 and max(one[0::2] for one in polygons)[0] <= 160
    drawn = cv2.fillPoly(np.zeros_like(mask), large, 1, shift=6)
    assert (drawn & mask).sum() / (drawn | mask).sum() > 0.95
