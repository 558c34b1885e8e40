"""Packing a pipeline's results into what the model takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData

from mmskin.errors import Mistake
from mmskin.registry import TRANSFORMS
from mmskin.structures import TaskSample

META_KEYS = ('image_id', 'img_path', 'ori_shape', 'img_shape')
FIELDS = {'gt_seg_map': 'gt_sem_seg'}  # of which mmcv's and mmseg's transforms know the former name


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


def packed(key: str, value: Any) -> torch.Tensor | PixelData:
    """Ground truth as a task takes it.

    Raises:
        Mistake: if it is no number, no numbers and no array of pixels.
    """
    array = np.asarray(value)
    if array.dtype.kind not in 'biuf' or array.ndim > 3:
        raise Mistake(f'{key} is {value!r}, and PackTaskSample takes numbers and masks; leave it out of its keys')
    if array.ndim > 1:
        channels = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        return PixelData(data=torch.from_numpy(np.ascontiguousarray(channels)))  # (C, h, w)
    is_label = array.ndim == 0 and array.dtype.kind != 'f'
    return torch.from_numpy(array.reshape(-1).astype(np.int64 if is_label else np.float32))
