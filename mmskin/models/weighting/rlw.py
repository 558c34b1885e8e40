"""Random weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmskin.models.weighting.weighting import StepSeed, Weighting
from mmskin.registry import MODELS

__all__ = ['RLW']


@MODELS.register_module()
class RLW(Weighting):
    """Random loss weighting: w = softmax(z), z ~ N(0, 1) for each task, drawn anew at every step.

    Lin et al., https://arxiv.org/abs/2111.10603, with the normal distribution, the default of the authors' LibMTL. The
    weights sum to 1, as there, so the loss is a half of the plain sum for two tasks.
    """

    def __init__(self, tasks: Sequence[str], active_tasks: Sequence[str]) -> None:
        super().__init__(tasks, active_tasks)
        self.random = StepSeed()

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        drawn = torch.from_numpy(self.random().standard_normal(len(self.tasks))).to(values)
        return drawn.masked_fill(~self.active, -torch.inf).softmax(dim=0)
