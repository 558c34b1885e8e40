"""Lesion masks: their outline, their largest part, and what can be measured on them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from skimage.measure import find_contours, perimeter_crofton

Polygon = list[tuple[int, int]]
LENGTHS = ('perimeter', 'equivalent_diameter', 'max_feret_diameter')
CORNERS = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)])  # of a pixel, about its centre


@dataclass(frozen=True)
class LesionMeasurements:
    """A lesion's size, place and shape, in pixels of the original image: all its parts together, without its holes.

    Sizes on the skin are None unless it is known how many millimetres a pixel has. x runs to the right, y down, and
    whole numbers are the pixels' centres.

    Attributes:
        area: Number of pixels.
        area_fraction: Share of the image.
        perimeter: By Crofton's formula over four directions, holes included; pixel edges would be too long
            (https://scikit-image.org/docs/stable/api/skimage.measure.html, ``perimeter_crofton``).
        equivalent_diameter: Of a disc of the same area, sqrt(4 area / pi).
        max_feret_diameter: The largest distance between two of its points, pixels being squares.
        bounding_box: left, top, width, height.
        centroid: (x, y).
        eccentricity: Of the ellipse with the same second moments, 0 for a circle to 1 for a line.
        asymmetry: Share of the area that folding leaves uncovered, about the principal axis for which it is smaller:
            0 for a symmetric lesion. The halves' difference of Stoecker et al. 1992, Computerized Medical Imaging and
            Graphics 16 (3), 191; here on a mask of at most 512 pixels.
        compactness: perimeter^2 / (4 pi area), 1 for a disc and more the more irregular the border is; known as the
            compactness index of border irregularity.
        irregularity: 1 - area / convex hull's area, 0 for a convex shape.
        num_components: Connected pieces; those that touch by a corner are one.
        touches_frame: Whether it reaches the image's edge, so that part of it may not be seen.
        area_mm2, perimeter_mm, equivalent_diameter_mm, max_feret_diameter_mm: Sizes on the skin.
    """

    area: int
    area_fraction: float
    perimeter: float
    equivalent_diameter: float
    max_feret_diameter: float
    bounding_box: tuple[int, int, int, int]
    centroid: tuple[float, float]
    eccentricity: float
    asymmetry: float
    compactness: float
    irregularity: float
    num_components: int
    touches_frame: bool
    area_mm2: float | None = None
    perimeter_mm: float | None = None
    equivalent_diameter_mm: float | None = None
    max_feret_diameter_mm: float | None = None


def measure_lesion(mask: np.ndarray, mm_per_pixel: float | None = None) -> LesionMeasurements | None:
    """Measure what is true in ``mask`` (H, W), in millimetres, too, if a pixel's are known; None if nothing is."""
    levels = mask.astype(np.uint8)
    if not levels.any():
        return None
    left, top, width, height = cv2.boundingRect(levels)
    window = levels[top : top + height, left : left + width]
    moments = cv2.moments(window, binaryImage=True)
    area, perimeter = round(moments['m00']), float(perimeter_crofton(window))
    in_pixels = LesionMeasurements(
        area=area,
        area_fraction=area / mask.size,
        perimeter=perimeter,
        equivalent_diameter=math.sqrt(4 * area / math.pi),
        max_feret_diameter=max_feret_diameter(window),
        bounding_box=(left, top, width, height),
        centroid=(left + moments['m10'] / area, top + moments['m01'] / area),
        eccentricity=eccentricity(moments),
        asymmetry=asymmetry(window),
        compactness=perimeter**2 / (4 * math.pi * area),
        irregularity=irregularity(window),
        num_components=cv2.connectedComponents(window, connectivity=8)[0] - 1,
        touches_frame=left == 0 or top == 0 or left + width == mask.shape[1] or top + height == mask.shape[0],
    )
    if mm_per_pixel is None:
        return in_pixels
    lengths = {f'{name}_mm': getattr(in_pixels, name) * mm_per_pixel for name in LENGTHS}
    return replace(in_pixels, area_mm2=area * mm_per_pixel * mm_per_pixel, **lengths)


def contours_of(mask: np.ndarray) -> list[Polygon]:
    """Closed polygons through the centres of the lesion's border pixels, largest first; a hole has one, too.

    Filling their union by the even-odd rule, border pixels included, gives ``mask`` (H, W) back.
    """
    return [polygon for polygon, _ in borders_of(mask)]


def borders_of(mask: np.ndarray) -> list[tuple[Polygon, bool]]:
    """The polygons of ``contours_of``, each with whether it goes round a hole."""
    contours, hierarchy = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0, :, 3] if contours else ()  # a hole's is what it is in; a lesion has none: -1
    by_size = sorted(zip(contours, parents, strict=True), key=lambda pair: cv2.contourArea(pair[0]), reverse=True)
    return [([(int(x), int(y)) for x, y in contour[:, 0]], bool(parent >= 0)) for contour, parent in by_size]


def simplified(polygon: Polygon) -> Polygon:
    """A closed polygon with as few of its points as keep it within half a pixel (Douglas and Peucker)."""
    kept = cv2.approxPolyDP(np.array(polygon, np.int32), 0.5, True)[:, 0]
    return [(int(x), int(y)) for x, y in kept]


def coco_segmentation(mask: np.ndarray) -> list[list[float]] | dict[str, list[int]]:
    """``mask`` (H, W) as COCO has it: polygons along its border, to half a pixel, or run lengths if it has a hole.

    A pixel reaches from its column's number to the next. Polygons cannot say that something is a hole; the run lengths,
    column by column from above and beginning with those off the lesion, are exact. See
    https://cocodataset.org/#format-data.
    """
    if any(is_hole for _, is_hole in borders_of(mask)):
        levels = np.concatenate([[0], mask.astype(np.int8).ravel(order='F'), [0]])
        ends = np.flatnonzero(np.diff(levels))
        counts = np.diff([0, *ends.tolist(), mask.size] if ends[-1] < mask.size else [0, *ends.tolist()])
        return {'counts': counts.tolist(), 'size': list(mask.shape)}
    polygons = []
    for line in find_contours(np.pad(mask, 1).astype(float), 0.5):
        simple = cv2.approxPolyDP(line.astype(np.float32), 0.5, False)[:, 0]
        kept = (simple if len(simple) > 4 else line)[:-1, ::-1] - 0.5  # the frame of 1, and half a pixel to its corner
        polygons.append(np.round(kept, 2).ravel().tolist())
    return polygons


def eccentricity(moments: Mapping[str, float]) -> float:
    """That of the ellipse with the second moments that ``cv2.moments`` gives, each pixel being a square."""
    xx, xy, yy = (moments[name] / moments['m00'] for name in ('mu20', 'mu11', 'mu02'))
    spread = math.hypot(xx - yy, 2 * xy)  # the difference of the principal second moments
    return math.sqrt(spread / (xx + yy + 1 / 6 + spread) * 2)  # 1 / 12 for each axis is a square's own


def max_feret_diameter(mask: np.ndarray) -> float:
    """The largest distance between two corners of pixels of ``mask``, uint8 (H, W)."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0]  # (M, 2)
    corners = cv2.convexHull((hull[:, None] + CORNERS).reshape(-1, 2).astype(np.float32))  # (N, 1, 2)
    return float(np.linalg.norm(corners - corners[:, 0], axis=-1).max())


def asymmetry(mask: np.ndarray) -> float:
    """Half the share of the lesion's area that differs after a reflection, about the better of its principal axes."""
    scale = min(1.0, 512 / max(mask.shape))
    small = mask
    if scale < 1:  # a pixel is lesion if any of it is: nothing gets lost
        size = [max(1, round(side * scale)) for side in mask.shape[::-1]]
        part = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        small = (part > 0).astype(np.uint8)
    y, x = np.nonzero(small)
    points = np.stack([x, y]).astype(float)  # (2, M)
    centre = points.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(np.cov(points - centre) if len(x) > 1 else np.eye(2))
    padded = np.pad(small, 1)  # what is reflected out of the window is off the lesion
    uncovered = []
    for normal in axes.T:
        mirrored = points - 2 * np.outer(normal, normal @ (points - centre))
        column, row = np.rint(mirrored).astype(int)
        row, column = (np.clip(place + 1, 0, side - 1) for place, side in zip((row, column), padded.shape, strict=True))
        uncovered.append(1 - float(padded[row, column].mean()))
    return min(uncovered)


def diameter(mask: np.ndarray) -> float:
    """The diameter of a disc as large as the lesion, above 0 in ``mask`` (H, W), as a share of the frame's side.

    The equivalent diameter sqrt(4 A / pi) of https://docs.opencv.org/5.0/py_tutorials/py_imgproc/py_contours/, with the
    area A as a share of the frame's. Times sqrt(H W) it is in pixels of an image of H x W.
    """
    return float(np.sqrt(4 / np.pi * cv2.countNonZero(mask) / mask.size))


def irregularity(mask: np.ndarray) -> float:
    """1 - solidity, the share of the convex hull of a lesion in ``mask``, uint8 (H, W), that is not lesion.

    Solidity (same source) compares two areas. Compactness, perimeter^2 / (4 pi A), would need a perimeter, which the
    stair-steps of pixels lengthen by up to 41 %, and would change when an image is squashed. The hull's area, too, is
    counted in pixels, those whose centres lie in the polygon around all pixels' centres, so that a digitised disc
    has no irregularity, as a digitised square has none. Several pieces have one hull.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0]  # (M, 2)
    steps = np.abs(hull - np.roll(hull, 1, axis=0))
    on_edge = int(np.gcd(steps[:, 0], steps[:, 1]).sum())  # of a line, there and back
    # Pick's theorem (https://mathworld.wolfram.com/PicksTheorem.html): A = I + B / 2 - 1, of I inside and B on the edge
    return 1 - cv2.countNonZero(mask) / round(cv2.contourArea(hull) + on_edge / 2 + 1)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of ``mask``, uint8 (H, W), 1 on the lesion and 0 off it; an empty mask stays empty.

    Pixels that touch by a corner are connected.
    """
    window = window_of(mask)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask[window], connectivity=8)
    if count <= 2:  # the background and at most one part
        return mask
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    component = np.zeros_like(mask)
    component[window] = parts == largest
    return component


def window_of(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold all of the lesion; one pixel, if there is none."""
    left, top, width, height = cv2.boundingRect(mask)
    return slice(top, top + max(height, 1)), slice(left, left + max(width, 1))
