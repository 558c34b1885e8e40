"""Dynamic weight average."""

from collections.abc import Sequence

import torch
from mmengine.logging import MessageHub
from torch import Tensor

from mmskin.errors import Mistake
from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS

__all__ = ['DWA']


@MODELS.register_module()
class DWA(Weighting):
    """A task whose loss falls more slowly weighs more: K softmax_k(r_k / T), r_k(t - 1) = L_k(t - 1) / L_k(t - 2).

    Liu, Johns and Davison, https://arxiv.org/abs/1803.10704, eq. 7. L_k(t) is the average of task k's loss over
    epoch t, K the number of tasks. In the first two epochs r = 1, and so are all weights.

    Ours: batches without a label for a task are not in its average; a task with none in an epoch keeps its last
    average, and r = 1 until it has two; the average is over all processes.

    A training that counts iterations has one epoch only, in which the weights stay 1.

    Args:
        tasks: See ``Weighting``.
        active_tasks: See ``Weighting``.
        temperature: T; the larger, the more alike the weights. 2 is the paper's.
    """

    epoch: Tensor
    total: Tensor
    count: Tensor
    average: Tensor
    earlier: Tensor

    def __init__(self, tasks: Sequence[str], active_tasks: Sequence[str], temperature: float = 2.0) -> None:
        super().__init__(tasks, active_tasks)
        if temperature <= 0:
            raise Mistake(f'temperature is {temperature}; it has to be greater than 0')
        self.temperature = temperature
        self.register_buffer('epoch', torch.tensor(0))  # the one that total and count are about
        self.register_buffer('total', torch.zeros(len(tasks)))  # of the losses
        self.register_buffer('count', torch.zeros(len(tasks)))  # of the steps that had labels
        self.register_buffer('average', torch.full((len(tasks),), torch.nan))  # in the last epoch
        self.register_buffer('earlier', torch.full((len(tasks),), torch.nan))  # in the epoch before

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        if self.training:
            self._begin_epoch(MessageHub.get_current_instance().get_info('epoch', 0))
            self.total += torch.where(present, values, 0)
            self.count += present
        rates = (self.average / self.earlier).nan_to_num(nan=1.0)
        rates = (rates / self.temperature).masked_fill(~self.active, -torch.inf)
        return self.active.sum() * rates.softmax(dim=0)

    def _begin_epoch(self, epoch: int) -> None:
        if epoch == self.epoch:
            return
        seen = self.count > 0
        self.earlier.copy_(torch.where(seen, self.average, self.earlier))
        self.average.copy_(torch.where(seen, self.total / self.count, self.average))
        self.total.zero_()
        self.count.zero_()
        self.epoch.fill_(epoch)
