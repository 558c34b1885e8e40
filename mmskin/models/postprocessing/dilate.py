"""Dilation, to the letter of the paper."""

import cv2
import numpy as np

from mmskin.registry import MODELS

__all__ = ['Dilate']


@MODELS.register_module()
class Dilate:
    """Dilate the mask by a disc: holes up to the disc's size are filled, and the outline moves out by its radius.

    Args:
        radius: As a fraction of the image's longer side, so that it means the same at every size.
    """

    def __init__(self, radius: float = 0.01) -> None:
        self.radius = radius

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        """Dilate ``mask``, uint8 (H, W), 1 on the lesion and 0 off it."""
        radius = round(self.radius * max(mask.shape))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return cv2.dilate(mask, disc)
