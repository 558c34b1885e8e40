"""The sample that travels through every part of mmskin."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.structures import BaseDataElement, PixelData

from mmskin.errors import Mistake
from mmskin.files import check_name

IGNORED = 255  # of a map of classes: a pixel that no loss and no score counts
UNKNOWN = ('', 'unknown', 'nan', 'none', 'null', 'na', 'n/a')  # as tables and people write it


class TaskSample(BaseDataElement):
    """One image's ground truth and predictions for every task; plain attributes, each absent where it is not known.

    Image sizes are (height, width) in pixels; ``H, W`` is the original image, ``h, w`` the network's input.

    Meta fields:
        image_id (str): the image's name in the data set, such as ``ISIC_0000000``; files are named after it, so it has
            to be what ``check_name`` takes.
        img_path (str): the file the image was read from, or its name in a storage, as ``'lmdb://images/0001.jpg'``.
        ori_shape (tuple[int, int]): ``(H, W)``, also where the file was decoded at a reduced scale.
        img_shape (tuple[int, int]): ``(h, w)``.
        targets (dict[str, str]): of each task that has predicted, the field with its ground truth, such as
            ``{'cls': 'gt_label', 'sex': 'gt_sex'}``.

    What the network sees in addition to the image:
        inputs (dict[str, float | str]): values by the input's name, such as ``{'age': 55, 'sex': 'female'}``; what is
            absent is unknown.

    Ground truth, in a field that a task names as its ``target``; absent where the image has no label for the task.
    These are the defaults of each kind of task; others, such as ``gt_sex``, hold the same:
        gt_label (Tensor): int64, shape (1,), a class or a grade, from 0.
        gt_labels (Tensor): float32, shape (num_labels,), 1 for each that applies, 0 for others, NaN where unknown.
        gt_values (Tensor): float32, shape (num_values,), what a regression learns, such as ``MeasureLesion``'s two.
        gt_sem_seg (PixelData): ``data`` is uint8, 0 for the background, 1 for what is outlined, or the number of a
            class; shape (1, h, w) in training and (1, H, W) in validation and test, where the mask keeps its file's own
            size.
        gt_masks (PixelData): ``data`` is uint8, shape (C, h, w) or (C, H, W), 1 where each of C things is.

    Predictions, in fields that begin with the task's name, here ``cls``, ``seg`` and so on:
        cls_score (Tensor): float, shape (num_classes,), probabilities.
        cls_label (Tensor): int64, shape (1,).
        attributes_labels (Tensor): int64, shape (num_labels,), 0 or 1, of a task that takes any of several labels.
        seg_prob (PixelData): ``data`` is float, shape (C, h, w), probabilities; of a segmentation into classes the
            background's first.
        seg_mask (PixelData): ``data`` is uint8, shape (C, H, W), 1 where each class but the background is.
        shape_values (Tensor): float, shape (num_values,), in the units of the ground truth.

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
        given = {'inputs', *self.get('targets', {}).values()}
        return {name: value for name, value in self.items() if name not in given and not name.startswith('gt_')}


def is_known(value: Any) -> bool:
    """Whether a value of ``TaskSample.inputs`` or of a table says anything: not None, NaN, empty or "unknown"."""
    return value is not None and str(value).strip().lower() not in UNKNOWN


def not_finite(fields: Mapping[str, Any]) -> list[str]:
    """Which of the fields have nan or infinity in them, and which of the two, such as ``'cls_score is nan'``.

    Args:
        fields: Tensors, maps or lists of tensors by name, such as losses or ``TaskSample.predictions``.
    """
    faults = []
    for name, value in fields.items():
        parts = value if isinstance(value, list | tuple) else [value]
        tensors = [part.data if isinstance(part, PixelData) else part for part in parts]
        wrong = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor) and not tensor.isfinite().all()]
        if wrong:
            faults.append(f'{name} is {"nan" if any(tensor.isnan().any() for tensor in wrong) else "infinite"}')
    return faults


def label_in(sample: Mapping[str, Any], field: str) -> int | None:
    """The class in a field of a sample; of votes for classes the first with the most, None without any."""
    value = sample.get(field)
    if value is None or isinstance(value, int):
        return value
    numbers = torch.as_tensor(value).cpu()
    if numbers.numel() == 1:
        return int(numbers.item())
    return int(numbers.argmax()) if bool(numbers.isfinite().all()) and numbers.sum() > 0 else None


def names_key(target: str) -> str:
    """Where a data set's metainfo names the classes of a target: ``classes`` for ``gt_label``, else its own name."""
    return 'classes' if target == 'gt_label' else target


def check_names(metainfo: Mapping[str, Any]) -> None:
    """Raise a ``Mistake`` if what names the classes of a target is no list, or has a name twice."""
    for key, names in metainfo.items():
        are_names = key == 'classes' or key.startswith('gt_')
        if are_names and (isinstance(names, str) or len({*names}) < len(names)):
            raise Mistake(f'metainfo: {key}={names!r}; give a list of names, each once')


def names_of(metainfo: Mapping[str, Any] | None, target: str) -> tuple[str, ...]:
    """The names of a target's classes, labels, values or outlines, in their order; empty if there are none."""
    return tuple((metainfo or {}).get(names_key(target), ()))
