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
    probability = 'pred_score'

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits (N, num_classes) and labels (N,)."""
        return logits, torch.cat([sample.gt_label for sample in samples])

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities (N, num_classes)."""
        return self(feats).float().softmax(dim=1)

    def decide(self, sample: TaskSample) -> None:
        """Write the likeliest class as ``pred_label``."""
        sample.pred_label = sample.pred_score.argmax(dim=0, keepdim=True)
