"""Conflict-averse gradient descent."""

from collections.abc import Sequence

from torch import Tensor

from mmskin.models.weighting.gradient_weighting import GradientWeighting
from mmskin.models.weighting.torchjd_weighting import TorchJDWeighting
from mmskin.registry import MODELS

__all__ = ['CAGrad']


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
            raise ValueError(f'c is {c}; it has to be at least 0 and less than 1')
        self.method = TorchJDWeighting('CAGradWeighting', c=c)

    def weigh(self, gramian: Tensor) -> Tensor:
        return len(gramian) * self.method(gramian)
