"""Filling holes, which a lesion does not have."""

import cv2
import numpy as np

from mmskin.registry import MODELS

__all__ = ['FillHoles']


@MODELS.register_module()
class FillHoles:
    """Turn background that a lesion encloses into lesion.

    The result is that of morphological reconstruction by dilation: the background is what the frame's border reaches
    through background pixels, side by side, and all else is lesion. The paper fills "small holes of the output masks
    with morphological dilation"; a plain dilation (`Dilate`) moves the outline too, this one does not.

    Args:
        max_area: Largest hole that is filled, as a fraction of the image's area. By default all are.
    """

    def __init__(self, max_area: float = 1.0) -> None:
        self.max_area = max_area

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Fill the holes of ``mask``, uint8 (H, W), 1 on the lesion and 0 off it."""
        _, regions, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] <= self.max_area * mask.size
        border = np.concatenate([regions[[0, -1]].ravel(), regions[:, [0, -1]].ravel()])
        small[border] = False
        return mask | small[regions].astype(np.uint8)
