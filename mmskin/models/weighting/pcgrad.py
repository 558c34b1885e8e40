"""Projecting conflicting gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmskin.models.weighting.gradient_weighting import GradientWeighting
from mmskin.models.weighting.step_seed import StepSeed
from mmskin.models.weighting.torchjd_weighting import TorchJDWeighting
from mmskin.registry import MODELS

__all__ = ['PCGrad']


@MODELS.register_module()
class PCGrad(GradientWeighting):
    """The sum of the gradients, each without the part that conflicts with another's.

    Yu et al., https://arxiv.org/abs/2001.06782, algorithm 1: g_i loses (g_i . g_j) / |g_j|^2 g_j where that product is
    negative, for all other tasks j in random order, which matters from three tasks on. By TorchJD's PCGradWeighting.
    Training needs ``pip install 'mmskin[torchjd]'``.
    """

    def __init__(self, tasks: Sequence[str], active_tasks: Sequence[str]) -> None:
        super().__init__(tasks, active_tasks)
        self.method = TorchJDWeighting('PCGradWeighting')
        self.random = StepSeed()

    def weigh(self, gramian: Tensor) -> Tensor:
        seed = int(self.random().integers(2**62))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which would seed the GPUs as well
            return self.method(gramian)
