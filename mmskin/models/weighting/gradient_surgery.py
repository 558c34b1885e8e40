"""Gradient surgery: steps from the gradients of the tasks, by the optional library TorchJD."""

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake, needs
from mmskin.models.weighting.gradient_weighting import GradientWeighting
from mmskin.models.weighting.weighting import StepSeed
from mmskin.registry import MODELS

__all__ = ['CAGrad', 'PCGrad', 'TorchJDWeighting', 'UPGrad']


class TorchJDWeighting(nn.Module):
    """TorchJD's weighting ``name``, from the products of the gradients (K, K) to weights (K,).

    It is built when a training starts, so that a network which only tests or predicts does without TorchJD.

    Args:
        name: Of the class in ``torchjd.aggregation``.
        options: Its arguments.
    """

    def __init__(self, name: str, **options: float) -> None:
        super().__init__()
        self.name, self.options = name, options

    @cached_property
    def method(self) -> Callable[[Tensor], Tensor]:
        """The weighting itself.

        Raises:
            ImportError: if TorchJD, or what it needs for this weighting, is not installed.
        """
        return getattr(needs('torchjd.aggregation', 'torchjd'), self.name)(**self.options)

    def train(self, mode: bool = True) -> 'TorchJDWeighting':
        """Switch to training, which needs TorchJD: better now than at the end of the first step."""
        if mode:
            _ = self.method
        return super().train(mode)

    def forward(self, gramian: Tensor) -> Tensor:
        """The weights."""
        return self.method(gramian)


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


@MODELS.register_module()
class CAGrad(GradientWeighting):
    """The step near the average gradient that the task which gains least from it gains most from.

    Liu et al., https://arxiv.org/abs/2110.14048, algorithm 1: d = g_0 + c |g_0| g_w / |g_w|, with g_0 the average of
    the gradients, g_w = sum_i w_i g_i and w on the simplex at the minimum of g_w . g_0 + c |g_0| |g_w|. By
    TorchJD's CAGradWeighting. d is multiplied by the number of tasks, as in the authors' code, so that it is to the
    sum of the losses what the paper's is to their average. Training needs ``pip install 'mmskin[torchjd]'``.

    Args:
        tasks: See ``Weighting``.
        active_tasks: See ``Weighting``.
        c: How far d may be from g_0, in [0, 1): with 0 it is g_0. LibMTL has 0.5.
    """

    def __init__(self, tasks: Sequence[str], active_tasks: Sequence[str], c: float = 0.5) -> None:
        super().__init__(tasks, active_tasks)
        if not 0 <= c < 1:
            raise Mistake(f'c is {c}; it has to be at least 0 and less than 1')
        self.method = TorchJDWeighting('CAGradWeighting', c=c)

    def weigh(self, gramian: Tensor) -> Tensor:
        return len(gramian) * self.method(gramian)


@MODELS.register_module()
class UPGrad(GradientWeighting):
    """The sum of the gradients, each projected onto the directions that conflict with none of them.

    Quinton and Rey, https://arxiv.org/abs/2406.16232: these directions d, the dual cone of the gradients, have
    d . g_j >= 0 for all j. By TorchJD's UPGradWeighting, which averages; the sum is ours, to fit the sum of the
    losses. Training needs ``pip install 'mmskin[torchjd]'``.
    """

    def __init__(self, tasks: Sequence[str], active_tasks: Sequence[str]) -> None:
        super().__init__(tasks, active_tasks)
        self.method = TorchJDWeighting('UPGradWeighting')

    def weigh(self, gramian: Tensor) -> Tensor:
        return len(gramian) * self.method(gramian)
