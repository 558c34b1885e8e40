"""Steps that finish a predicted mask, named in ``Segmentation(post=...)``; masks are uint8 (H, W), 1 on the lesion."""

import cv2
import numpy as np

from mmskin.masks import largest_component, window_of
from mmskin.registry import MODELS

__all__ = ['Dilate', 'FillHoles', 'LargestComponent']


@MODELS.register_module()
class Dilate:
    """Dilate the mask by a disc: holes up to the disc's size are filled, and the outline moves out by its radius.

    Args:
        radius: As a fraction of the image's longer side, so that it means the same at every size.
    """

    def __init__(self, radius: float = 0.01) -> None:
        self.radius = radius

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        radius = round(self.radius * max(mask.shape))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        return cv2.dilate(mask, disc)


@MODELS.register_module()
class FillHoles:
    """Turn background that a lesion encloses into lesion.

    The paper fills "small holes of the output masks with morphological dilation"; a plain dilation (`Dilate`) moves the
    outline too, this one does not. It is morphological reconstruction by dilation: background is what the frame's
    border reaches through background pixels, side by side; all else is lesion.

    Args:
        max_area: Largest hole that is filled, as a fraction of the image's area. By default all are.
    """

    def __init__(self, max_area: float = 1.0) -> None:
        self.max_area = max_area

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        window = window_of(mask)  # background at its edge goes on beyond it, or is at the frame's border
        _, regions, stats, _ = cv2.connectedComponentsWithStats(1 - mask[window], connectivity=4)
        small = stats[:, cv2.CC_STAT_AREA] <= self.max_area * mask.size
        border = np.concatenate([regions[[0, -1]].ravel(), regions[:, [0, -1]].ravel()])
        small[border] = False
        if not small[1:].any():  # 0 is the lesion
            return mask
        filled = mask.copy()
        filled[window] |= small[regions]
        return filled


@MODELS.register_module()
class LargestComponent:
    """Keep the largest connected part of the mask; an ISIC-2017 image shows one lesion. See ``largest_component``."""

    def __call__(self, mask: np.ndarray) -> np.ndarray:
        return largest_component(mask)
