"""Loading images and masks."""

from math import isqrt
from pathlib import Path

import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.datasets.storage import content_of
from mmskin.errors import Mistake
from mmskin.readers.images import MAX_PIXELS, read_image
from mmskin.readers.masks import read_levels, read_mask
from mmskin.registry import TRANSFORMS

IGNORED = 255  # of a map of classes


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load ``img_path``, of a file or of the sample's storage, as upright RGB; of a large JPEG no more than is needed.

    The EXIF orientation is applied, as every viewer and labelling tool does. Decoding at 1/2, 1/4 or 1/8 scale is part
    of JPEG; other formats are decoded in full and shrunk to the same size.

    Adds ``img`` (uint8, (h, w, 3)), ``img_shape`` (h, w), ``ori_shape`` (H, W), the size before the reduction, and
    ``input_size``, which tells the later steps what to resize to: a pipeline states its size here and nowhere else.

    Args:
        size: the network's input size in pixels; no side is reduced below it. None loads at full size.
        smallest_crop: the smallest side, as a fraction, that a later step crops; that much of the image still has
            ``size`` pixels.
        max_pixels: the largest image that is decoded.

    Raises:
        MissingFile: if the file is missing.
        Mistake: if it is truncated, no image, or larger than ``max_pixels``.
    """

    def __init__(self, size: int | None = None, smallest_crop: float = 1.0, max_pixels: int = MAX_PIXELS) -> None:
        if not 0 < smallest_crop <= 1:
            raise Mistake(f'smallest_crop={smallest_crop} of LoadImage is not within (0, 1].')
        if size is not None and not (isinstance(size, int) and 1 <= size <= isqrt(max_pixels)):
            raise Mistake(f'size={size!r} of LoadImage: give a whole number of pixels from 1 to {isqrt(max_pixels)}')
        self.size = size
        self.smallest_crop = smallest_crop
        self.max_pixels = max_pixels

    def transform(self, results: dict) -> dict:
        """Add the image and its sizes."""
        min_size = self.size / self.smallest_crop if self.size else None
        path = results['img_path']
        content = content_of(results, path)
        results['img'], results['ori_shape'] = read_image(
            Path(path) if content is None else content, min_size, self.max_pixels, '' if content is None else path
        )
        results['img_shape'] = results['img'].shape[:2]
        results['input_size'] = self.size
        return results


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Load the masks that a sample names, as arrays of uint8 at their files' own size, which has to be ``ori_shape``.

    ``seg_map_path`` becomes ``gt_seg_map`` (H, W), 1 on the foreground and 0 off it, and so do those of ``mask_paths``
    in their fields. Of several files in one field the masks are the channels of (H, W, C). Where ``mask_classes`` names
    more than one class for a field, its file holds the number of a class per pixel, from 1, and 255 where none counts.

    Raises:
        MissingFile: if a file is missing.
        Mistake: if it is of another size than the image, none that ``read_mask`` takes, or holds a class too many.
    """

    def transform(self, results: dict) -> dict:
        """Add the masks."""
        if results.get('seg_map_path'):
            results['gt_seg_map'] = self._load(results['seg_map_path'], results, 1)
        for field, paths in results.get('mask_paths', {}).items():
            classes = results.get('mask_classes', {}).get(field, 1)
            masks = [self._load(path, results, classes if len(paths) == 1 else 1) for path in paths]
            results[field] = masks[0] if len(masks) == 1 else np.stack(masks, axis=-1)
        return results

    @staticmethod
    def _load(path: str, results: dict, classes: int) -> np.ndarray:
        """One file's mask, or its map of ``classes``."""
        content = content_of(results, path)
        levels = read_mask(path, content) if classes == 1 else read_levels(path, content)
        height, width = results['ori_shape']
        if levels.shape != (height, width):
            raise Mistake(
                f'{path} is {levels.shape[1]}x{levels.shape[0]} pixels and its image {results["img_path"]} '
                f'{width}x{height} (upright, where EXIF says that it is turned); resize one to the other.'
            )
        if classes > 1 and (odd := {*np.unique(levels).tolist()} - {*range(classes + 1), IGNORED}):
            raise Mistake(
                f'{path} holds {max(odd)}, and there are {classes} classes; write 0 for the background, 1 to {classes} '
                f'for them, and {IGNORED} for what does not count'
            )
        return levels.astype(np.uint8)
