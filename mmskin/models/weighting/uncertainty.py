"""Weights from each task's homoscedastic uncertainty."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS

__all__ = ['UncertaintyWeights']


@MODELS.register_module()
class UncertaintyWeights(Weighting):
    """sum_i L_i / (2 exp s_i) + s_i / 2, with s_i = log sigma_i^2 learnt along with the network.

    Kendall, Gal and Cipolla, https://arxiv.org/abs/1705.07115, section 3.2 (eq. 7 in terms of s, as the paper trains
    it). s is an ordinary parameter of the network, which the network's optimiser moves; give it a rate of its
    own, and spare it the weight decay, by
    ``optim_wrapper.paramwise_cfg=dict(custom_keys={'weighting': dict(lr_mult=10, decay_mult=0)})``.

    Ours: all tasks have eq. 7's form, a regression's; for a classification the paper has L_i / exp s_i, which is the
    same with another start of s_i, by log 2. A task without a label in the batch leaves its s_i / 2 out, too;
    otherwise s_i would fall by itself, and the task's weight rise without end.

    Args:
        tasks: See ``Weighting``.
        active_tasks: See ``Weighting``.
        initial: s at the start. The paper finds that it hardly matters; with 0 all weights start at one half.
    """

    def __init__(self, tasks: Sequence[str], active_tasks: Sequence[str], initial: float = 0.0) -> None:
        super().__init__(tasks, active_tasks)
        self.log_variance = nn.Parameter(torch.full((len(tasks),), float(initial)), requires_grad=self.balances)

    def combine(self, losses: Mapping[str, Tensor], present: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        weights = 0.5 * torch.exp(-self.log_variance)
        return (weights * self.vector(losses) + 0.5 * self.log_variance * present).sum(), weights
