"""The sample that travels through every part of mmskin."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import BaseDataElement, PixelData

from mmskin.files import check_name

__all__ = ['TaskSample', 'is_known', 'not_finite']

UNKNOWN = ('', 'unknown', 'nan', 'none', 'null', 'na', 'n/a')  # as tables and people write it


class TaskSample(BaseDataElement):
    """One image's ground truth and predictions for every task; plain attributes, each absent where it is not known.

    Image sizes are (height, width) in pixels; ``H, W`` is the original image, ``h, w`` the network's input.

    Meta fields:
        image_id (str): the image's name in the data set, such as ``ISIC_0000000``; files are named after it, so it has
            to be what ``check_name`` takes.
        img_path (str): the file the image was read from.
        ori_shape (tuple[int, int]): ``(H, W)``, also where the file was decoded at a reduced scale.
        img_shape (tuple[int, int]): ``(h, w)``.

    What the network sees beside the image:
        inputs (dict[str, float | str]): values by the input's name, such as ``{'age': 55, 'sex': 'female'}``; what is
            absent is unknown.

    Ground truth, absent where the image has no label for the task:
        gt_label (Tensor): int64, shape (1,); 0 melanoma, 1 nevus, 2 seborrheic keratosis.
        gt_sem_seg (PixelData): ``data`` is uint8, 1 on the lesion and 0 off it; shape (1, h, w) in training and
            (1, H, W) in validation and test, where the mask keeps its file's own size.
        gt_values (Tensor): float32, shape (num_values,), what a regression learns, such as ``MeasureLesion``'s two.

    Predictions:
        pred_score (Tensor): float, shape (num_classes,), probabilities.
        pred_label (Tensor): int64, shape (1,).
        seg_prob (PixelData): ``data`` is float, shape (1, h, w), the probability of lesion.
        pred_sem_seg (PixelData): ``data`` is uint8, shape (1, H, W), 1 on the lesion and 0 off it.
        pred_values (Tensor): float, shape (num_values,), in the units of ``gt_values``.

    Example:
        >>> sample = TaskSample(metainfo=dict(image_id='ISIC_0000000'))
        >>> sample.gt_label = torch.tensor([1])
        >>> 'gt_sem_seg' in sample
        False
    """

    def set_metainfo(self, metainfo: dict) -> None:
        if 'image_id' in metainfo:
            check_name(metainfo['image_id'], 'the image id')
        super().set_metainfo(metainfo)

    @property
    def predictions(self) -> dict[str, Any]:
        """What the network says of the image, by field."""
        return {name: value for name, value in self.items() if name != 'inputs' and not name.startswith('gt_')}


def is_known(value: Any) -> bool:
    """Whether a value of ``TaskSample.inputs`` or of a table says anything: not None, NaN, empty or "unknown"."""
    return value is not None and str(value).strip().lower() not in UNKNOWN


def not_finite(fields: Mapping[str, Any]) -> list[str]:
    """Which of the fields have nan or infinity in them, and which of the two, such as ``'pred_score is nan'``.

    Args:
        fields: Tensors, maps or lists of tensors by name, such as losses or ``TaskSample.predictions``.
    """
    found = []
    for name, value in fields.items():
        values = value if isinstance(value, list | tuple) else [value]
        tensors = [one.data if isinstance(one, PixelData) else one for one in values]
        wrong = [one for one in tensors if isinstance(one, torch.Tensor) and not one.isfinite().all()]
        if wrong:
            found.append(f'{name} is {"nan" if any(one.isnan().any() for one in wrong) else "infinite"}')
    return found
