"""Resizing the image alone."""

import cv2
from mmcv.transforms import BaseTransform

from mmskin.errors import Mistake
from mmskin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeImage(BaseTransform):
    """Squash or stretch the image to a square, and leave the mask at its own size, at which it is scored.

    Args:
        size: height and width of the result, in pixels; as ``LoadImage`` has it by default.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size

    def transform(self, results: dict) -> dict:
        """Replace ``img`` and ``img_shape``."""
        image, size = results['img'], input_size(results, self.size)
        shrinks = min(image.shape[:2]) > size  # the mean over pixels avoids aliasing, but blocks what it enlarges
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        results['img'] = cv2.resize(image, (size, size), interpolation=interpolation)
        results['img_shape'] = (size, size)
        return results


def input_size(results: dict, size: int | None) -> int:
    """``size``, or else the one that ``LoadImage`` left in the results."""
    size = size or results.get('input_size')
    if size is None:
        raise Mistake('The pipeline states no input size; give LoadImage a size.')
    return size
