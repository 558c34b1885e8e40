"""Outlining the lesion."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor

from mmskin.models.tasks.task import Feats, Task
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

__all__ = ['Segmentation']


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``maps`` (N, C, h, w) to ``size`` (H, W), bilinear."""
    return F.interpolate(maps, tuple(size), mode='bilinear', align_corners=False)


@MODELS.register_module()
class Segmentation(Task):
    """A binary mask per image: ``gt_sem_seg`` in, ``seg_prob`` and ``pred_sem_seg`` out.

    A head gives one logit per pixel, or two (background, lesion).
    """

    target = 'gt_sem_seg'

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits and 0/1 masks (N, 1, H, W), at the masks' size."""
        masks = torch.stack([sample.gt_sem_seg.data for sample in samples])
        return resize(logits, masks.shape[2:]), masks.to(logits.dtype)

    def head_loss(self, feats: Feats, samples: Sequence[TaskSample]) -> dict[str, Tensor]:
        """The losses of a head of mmseg's, by name."""
        return self.head.loss(self.neck(feats), [_with_mask(sample.gt_sem_seg.data) for sample in samples], {})

    def predict(self, feats: Feats, samples: Sequence[TaskSample]) -> None:
        """Write ``seg_prob`` at the input's size and ``pred_sem_seg`` at the image's original size into each sample."""
        logits = self(feats).float()  # (N, 1 or 2, h, w)
        logit = logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]
        for sample, probability in zip(samples, resize(logit, samples[0].img_shape).sigmoid(), strict=True):
            mask = resize(probability[None], sample.ori_shape)[0] > 0.5
            sample.seg_prob = PixelData(data=probability)
            sample.pred_sem_seg = PixelData(data=mask.to(torch.uint8))


def _with_mask(mask: Tensor) -> TaskSample:
    """A sample with an int64 mask, which mmseg's losses need."""
    return TaskSample(gt_sem_seg=PixelData(data=mask.long()))
