"""Naming the disease."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmskin.models.tasks.task import Feats, Task
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

__all__ = ['Classification']


@MODELS.register_module()
class Classification(Task):
    """One of several classes per image: ``gt_label`` in, ``pred_score`` (softmax) and ``pred_label`` out."""

    target = 'gt_label'

    def labelled_loss(self, feats: Feats, samples: Sequence[TaskSample]) -> dict[str, Tensor]:
        """Losses, by name, of samples that all have ``gt_label``."""
        if self.losses is None:
            return self.head.loss(self.neck(feats), samples)
        labels = torch.cat([sample.gt_label for sample in samples])  # (N,)
        logits = self(feats)
        return {f'loss_{name}': loss(logits, labels) for name, loss in self.losses.items()}

    def predict(self, feats: Feats, samples: Sequence[TaskSample]) -> None:
        """Write ``pred_score`` (num_classes,) and ``pred_label`` (1,) into each sample."""
        for sample, score in zip(samples, self(feats).float().softmax(dim=1), strict=True):
            sample.pred_score = score
            sample.pred_label = score.argmax(dim=0, keepdim=True)
