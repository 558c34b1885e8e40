"""Measuring the lesion: what a network can learn from the mask without a further label."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.masks import diameter, irregularity, largest_component
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
            mask = largest_component(mask)
            if mask.any():
                results['gt_values'] = np.array([diameter(mask), irregularity(mask)], dtype=np.float32)
        return results
