"""Outlining the lesion."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor

from mmskin.models.tasks.task import Feats, Task
from mmskin.registry import MODELS, as_config
from mmskin.structures import TaskSample

__all__ = ['Segmentation', 'resize']


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize ``maps`` (N, C, h, w) to ``size`` (H, W), bilinear."""
    return F.interpolate(maps, tuple(size), mode='bilinear', align_corners=False)


@MODELS.register_module()
class Segmentation(Task):
    """A binary mask per image: ``gt_sem_seg`` in, ``seg_prob`` and ``pred_sem_seg`` out.

    A head gives one logit per pixel, or two (background, lesion).

    Args:
        post: What changes the final mask, in order: names or configs of callables from mask to mask, uint8 (H, W), e.g.
            ``['FillHoles', dict(type='Dilate', radius=0.02)]``.
        options: See ``Task``.
    """

    target = 'gt_sem_seg'
    probability = 'seg_prob'
    num_logits = 1  # of lesion against background

    def __init__(self, *args: Any, post: Sequence[str | dict] = (), **options: Any) -> None:
        super().__init__(*args, **options)
        self.set_post(post)

    def set_post(self, post: Sequence[str | dict]) -> None:
        """Finish masks by ``post`` from now on."""
        self.post = [MODELS.build(as_config(step)) for step in post]

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits of lesion and 0/1 masks (N, 1, H, W), at the masks' size."""
        masks = torch.stack([sample.gt_sem_seg.data for sample in samples])
        return resize(_of_lesion(logits), masks.shape[2:]), masks.to(logits.dtype)

    def head_loss(self, feats: Feats, samples: Sequence[TaskSample], labelled: list[int]) -> dict[str, Tensor]:
        """The losses of a head of mmseg's, by name; the whole batch goes through its batch norm over pooled maps."""
        masks = [_with_mask(sample.gt_sem_seg.data) for sample in samples]
        if len(labelled) == len(feats[-1]):
            return self.head.loss(self.neck(feats), masks, {})
        return self.head.loss_by_feat(self(feats)[labelled], masks)

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities of lesion (N, 1, h, w), at the input's ``size``."""
        return resize(_of_lesion(self(feats).float()), size).sigmoid()

    def decide(self, sample: TaskSample) -> None:
        """Write ``pred_sem_seg``: where ``seg_prob``, resized to the original size, is above one half; then `post`."""
        mask = (resize(sample.seg_prob.data[None], sample.ori_shape)[0] > 0.5).to(torch.uint8)
        sample.pred_sem_seg = PixelData(data=self._finish(mask) if self.post else mask)

    def _finish(self, mask: Tensor) -> Tensor:
        array = mask[0].cpu().numpy()
        for step in self.post:
            array = step(array)
        return torch.from_numpy(array)[None].to(mask.device)


def _of_lesion(logits: Tensor) -> Tensor:
    """The logit (N, 1, h, w) of lesion against background, from a head's one or two."""
    return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


def _with_mask(mask: Tensor) -> TaskSample:
    """A sample with an int64 mask, which mmseg's losses need."""
    return TaskSample(gt_sem_seg=PixelData(data=mask.long()))
