"""Loading images and lesion masks."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.datasets.readers.image_file import decode, decode_rgb, read_bytes, reduction, upright_size
from mmskin.errors import Mistake
from mmskin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load ``img_path`` as upright RGB, decoding no more of a large JPEG than is needed.

    The EXIF orientation is applied, as every viewer and labelling tool does. Decoding at 1/2, 1/4 or 1/8 scale is part
    of JPEG; other formats are decoded in full and shrunk to the same size.

    Adds ``img`` (uint8, (h, w, 3)), ``img_shape`` (h, w), ``ori_shape`` (H, W), the size before the reduction, and
    ``input_size``, which tells the later steps what to resize to: a pipeline states its size here and nowhere else.

    Args:
        size: the network's input size in pixels; no side is reduced below it. None loads at full size.
        smallest_crop: the smallest side, as a fraction, that a later step crops; that much of the image still has
            ``size`` pixels.

    Raises:
        MissingFile: if the file is missing.
        Mistake: if it is truncated or no image.
    """

    def __init__(self, size: int | None = None, smallest_crop: float = 1.0) -> None:
        self.size = size
        self.smallest_crop = smallest_crop

    def transform(self, results: dict) -> dict:
        """Add the image and its sizes."""
        path = results['img_path']
        data = read_bytes(path)
        shape = upright_size(data, path)
        scale = reduction(shape, self.size / self.smallest_crop) if self.size else 1
        results['img'] = decode_rgb(data, scale, path)
        results['img_shape'] = results['img'].shape[:2]
        results['ori_shape'] = shape
        results['input_size'] = self.size
        return results


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Load ``seg_map_path``, if the sample has one, as ``gt_seg_map``: uint8 (H, W), 1 on the lesion and 0 off it.

    The mask keeps its file's size, which has to be ``ori_shape``.

    Raises:
        MissingFile: if the file is missing.
        Mistake: if it is truncated or no image, of another size than the image, or holds values other than 0 and
            255 (or 0 and 1).
    """

    def transform(self, results: dict) -> dict:
        """Add the mask."""
        path = results.get('seg_map_path')
        if path is None:
            return results
        mask = decode(read_bytes(path), cv2.IMREAD_GRAYSCALE, path)
        check_size(mask, path, results)
        results['gt_seg_map'] = binary(mask, path)
        return results


def check_size(mask: np.ndarray, path: str, results: dict) -> None:
    """Raise if the mask is not of its image's original size."""
    height, width = results['ori_shape']
    if mask.shape != (height, width):
        raise Mistake(
            f'{path} is {mask.shape[1]}x{mask.shape[0]} pixels and its image {results["img_path"]} {width}x{height}'
            ' (upright, where EXIF says that it is turned); resize one to the other.'
        )


def binary(mask: np.ndarray, path: str) -> np.ndarray:
    """The mask with 255 mapped to 1; counting is several times faster than ``np.unique`` on a mask of 12 Mpx."""
    top = int(mask.max())
    lesion = (mask == top).astype(np.uint8) if top else mask
    if top not in (0, 1, 255) or cv2.countNonZero(lesion) != cv2.countNonZero(mask):
        values = np.unique(mask)
        shown = ', '.join(map(str, values[:8])) + (', ...' if len(values) > 8 else '')
        raise Mistake(f'{path} holds the values {shown}; a mask has 0 off the lesion and 255 (or 1) on it.')
    return lesion
