"""Unconflicting projection of gradients."""

from collections.abc import Sequence

from torch import Tensor

from mmskin.models.weighting.gradient_weighting import GradientWeighting
from mmskin.models.weighting.torchjd_weighting import TorchJDWeighting
from mmskin.registry import MODELS

__all__ = ['UPGrad']


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
