"""Keeping one lesion."""

import cv2
import numpy as np

from mmskin.registry import MODELS

__all__ = ['LargestComponent']


@MODELS.register_module()
class LargestComponent:
    """Keep the largest connected part of the mask; an ISIC-2017 image shows one lesion.

    Pixels that touch by a corner are connected.
    """

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """The largest part of ``mask``, uint8 (H, W), 1 on the lesion and 0 off it; an empty mask stays empty."""
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        if count <= 2:  # the background and at most one part
            return mask
        largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        return (parts == largest).astype(np.uint8)
