"""Loading images and masks, resizing them, and packing a pipeline's results into what the model takes."""

from collections.abc import Sequence
from math import isqrt
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData

from mmskin.datasets.storage import content_of
from mmskin.errors import Mistake
from mmskin.readers.images import MAX_PIXELS, read_image
from mmskin.readers.masks import read_levels, read_mask
from mmskin.registry import TRANSFORMS
from mmskin.structures import IGNORED, TaskSample

META_KEYS = ('image_id', 'img_path', 'ori_shape', 'img_shape')
FIELDS = {'gt_seg_map': 'gt_sem_seg'}  # of which mmcv's and mmseg's transforms know the former name


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
            raise Mistake(f'smallest_crop={smallest_crop} of LoadImage is not within (0, 1]')
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
                f'{width}x{height} (upright, where EXIF says that it is turned); resize one to the other'
            )
        if classes > 1 and (odd := {*np.unique(levels).tolist()} - {*range(classes + 1), IGNORED}):
            raise Mistake(
                f'{path} holds {max(odd)}, and there are {classes} classes; write 0 for the background, 1 to {classes} '
                f'for them, and {IGNORED} for what does not count'
            )
        return levels.astype(np.uint8)


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


@TRANSFORMS.register_module()
class PackTaskSample(BaseTransform):
    """Pack the results as ``dict(inputs=uint8 tensor (3, h, w), data_samples=TaskSample)``.

    The last step of every pipeline. What the sample has no label for, the ``TaskSample`` lacks. A whole number becomes
    int64 (1,), a fraction or several numbers float32, and an array of pixels ``PixelData`` (C, h, w).

    Args:
        keys: The ground truth to pack, such as ``('gt_label', 'gt_sex')``; by default all that begins with ``gt_``.
    """

    def __init__(self, keys: Sequence[str] | None = None) -> None:
        self.keys = keys

    def transform(self, results: dict) -> dict:
        """Pack image, ground truth, inputs other than the image and meta fields."""
        metainfo = {key: results[key] for key in META_KEYS if key in results}
        if stored := results.get('backend_args'):
            metainfo['img_path'] = f'{stored["backend"]}://{results["img_path"]}'
        sample = TaskSample(metainfo=metainfo)
        for key, value in results.items():
            field = FIELDS.get(key, key)
            if key.startswith('gt_') and value is not None and (self.keys is None or {key, field} & {*self.keys}):
                sample.set_field(packed(key, value), field)
        if results.get('inputs'):
            sample.inputs = dict(results['inputs'])
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))  # (3, h, w)
        return dict(inputs=torch.from_numpy(image), data_samples=sample)


def check_packed(packed: Any) -> dict:
    """What a pipeline gave, if a model takes it."""
    if not isinstance(packed, dict) or not {'inputs', 'data_samples'} <= packed.keys():
        raise Mistake("the pipeline gives no sample for a model; its last step has to be 'PackTaskSample'")
    return packed


def input_size(results: dict, size: int | None) -> int:
    """``size``, or else the one that ``LoadImage`` left in the results."""
    size = size or results.get('input_size')
    if size is None:
        raise Mistake('The pipeline states no input size; give LoadImage a size')
    return size


def packed(key: str, value: Any) -> torch.Tensor | PixelData:
    """Ground truth as a task takes it."""
    array = np.asarray(value)
    if array.dtype.kind not in 'biuf' or array.ndim > 3:
        raise Mistake(f'{key} is {value!r}, and PackTaskSample takes numbers and masks; leave it out of its keys')
    if array.ndim > 1:
        channels = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        return PixelData(data=torch.from_numpy(np.ascontiguousarray(channels)))  # (C, h, w)
    is_label = array.ndim == 0 and array.dtype.kind != 'f'
    return torch.from_numpy(array.reshape(-1).astype(np.int64 if is_label else np.float32))
