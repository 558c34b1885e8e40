"""Measuring the lesion: what a network can learn from the mask without a further label."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.models.postprocessing.largest_component import LargestComponent
from mmskin.registry import TRANSFORMS

MEASUREMENTS = ('diameter', 'irregularity')


@TRANSFORMS.register_module()
class MeasureLesion(BaseTransform):
    """Write the lesion's diameter and irregularity as ``gt_values`` (float32, (2,)), measured on ``gt_seg_map``.

    It comes after the steps that warp or resize, so that the values are those of the image that the network sees, cut
    and zoomed as it is. A larger mask, as validation and test have it, is measured at the image's size: an outline has
    the more irregularity the finer the pixels are (five irregular ones of the challenge's have 0.047 to 0.100 at their
    own 5 to 12 Mpx, and 0.020 to 0.068 at 192 pixels). A sample without a mask, or with no lesion in it, gets none.

    Of several pieces the largest is measured: a warp fills what lies outside the frame with its reflection, and pieces
    of lesion there would span a hull over half the image.
    """

    def transform(self, results: dict) -> dict:
        """Add the values."""
        mask = results.get('gt_seg_map')
        if mask is not None:
            height, width = results['img_shape']
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)  # as the warp does
            mask = LargestComponent()(mask)
            if mask.any():
                results['gt_values'] = np.array([diameter(mask), irregularity(mask)], dtype=np.float32)
        return results


def diameter(mask: np.ndarray) -> float:
    """The diameter of a disc as large as the lesion, as a share of the frame's side.

    The equivalent diameter sqrt(4 A / pi) of https://docs.opencv.org/5.0/py_tutorials/py_imgproc/py_contours/, with the
    area A as a share of the frame's. Times sqrt(H W) it is in pixels of an image of H x W.

    Args:
        mask: (H, W), above 0 on the lesion.
    """
    return float(np.sqrt(4 / np.pi * cv2.countNonZero(mask) / mask.size))


def irregularity(mask: np.ndarray) -> float:
    """1 - solidity: the share of the lesion's convex hull that is not lesion; 0 for any convex shape.

    Solidity (same source) compares two areas. Compactness, perimeter^2 / (4 pi A), would need a perimeter, which the
    stair-steps of pixels lengthen by up to 41 %, and would change when an image is squashed. The hull's area, too, is
    counted in pixels, those whose centres lie in the polygon around all pixels' centres, so that a digitised disc
    has no irregularity, as a digitised square has none. Several pieces have one hull.

    Args:
        mask: uint8 (H, W), above 0 on the lesion, of which there is some.
    """
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = cv2.convexHull(np.concatenate(contours))[:, 0]  # (M, 2)
    return 1 - cv2.countNonZero(mask) / lattice_points(hull)


def lattice_points(polygon: np.ndarray) -> int:
    """How many points with integer coordinates lie in or on a polygon (M, 2) with such corners.

    Pick's theorem (https://mathworld.wolfram.com/PicksTheorem.html): A = I + B / 2 - 1, of I inside and B on the edge.
    """
    steps = np.abs(polygon - np.roll(polygon, 1, axis=0))
    on_edge = int(np.gcd(steps[:, 0], steps[:, 1]).sum())
    if len(polygon) < 3:  # a line, there and back, or a point
        return on_edge // 2 + 1
    return round(cv2.contourArea(polygon) + on_edge / 2 + 1)
