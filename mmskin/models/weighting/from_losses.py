"""Weights that follow from the losses alone."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.weighting.weighting import StepSeed, Weighting
from mmskin.registry import MODELS


@MODELS.register_module()
class FixedWeights(Weighting):
    """Constant weights; the plain sum of the losses by default.

    Args:
        weights: The weight of a task by its name, 1 for those that are not named.
        options: See ``Weighting``.

    Raises:
        Mistake: if a weight is negative, or for no task of the network.
    """

    values: Tensor

    def __init__(self, *args: Any, weights: Mapping[str, float] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        weights, tasks = weights or {}, self.tasks
        wrong = [f'{task}={weight}' for task, weight in weights.items() if task not in tasks or weight < 0]
        if wrong:
            raise Mistake(f'weights {", ".join(wrong)}: give a number >= 0 for some of the tasks {", ".join(tasks)}')
        values = torch.tensor([float(weights.get(task, 1)) for task in tasks])
        self.register_buffer('values', values, persistent=False)  # the config decides, not the checkpoint

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        return self.values


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
        initial: s at the start. The paper finds that it hardly matters; with 0 all weights start at one half.
        options: See ``Weighting``.
    """

    def __init__(self, *args: Any, initial: float = 0.0, **options: Any) -> None:
        super().__init__(*args, **options)
        start = torch.full((len(self.tasks),), float(initial))
        self.log_variance = nn.Parameter(start, requires_grad=self.balances)

    def combine(self, losses: Mapping[str, Tensor], present: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        weights = 0.5 * torch.exp(-self.log_variance)
        return (weights * self.vector(losses) + 0.5 * self.log_variance * present).sum(), weights


@MODELS.register_module()
class DWA(Weighting):
    """A task whose loss falls more slowly weighs more: K softmax_k(r_k / T), r_k(t - 1) = L_k(t - 1) / L_k(t - 2).

    Liu, Johns and Davison, https://arxiv.org/abs/1803.10704, eq. 7. L_k(t) is the average of task k's loss over
    epoch t, K the number of tasks. In the first two epochs r = 1, and so are all weights.

    Ours: batches without a label for a task are not in its average; a task with none in an epoch keeps its last
    average, and r = 1 until it has two; the average is over all processes.

    A training that counts iterations has one epoch only, in which the weights stay 1.

    Args:
        temperature: T; the larger, the more alike the weights. 2 is the paper's.
        options: See ``Weighting``.
    """

    epoch: Tensor
    total: Tensor
    count: Tensor
    average: Tensor
    earlier: Tensor

    def __init__(self, *args: Any, temperature: float = 2.0, **options: Any) -> None:
        super().__init__(*args, **options)
        if temperature <= 0:
            raise Mistake(f'temperature is {temperature}; it has to be greater than 0')
        self.temperature, count = temperature, len(self.tasks)
        self.register_buffer('epoch', torch.tensor(0))  # the one that total and count are about
        self.register_buffer('total', torch.zeros(count))  # of the losses
        self.register_buffer('count', torch.zeros(count))  # of the steps that had labels
        self.register_buffer('average', torch.full((count,), torch.nan))  # in the last epoch
        self.register_buffer('earlier', torch.full((count,), torch.nan))  # in the epoch before

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        if self.training:
            epoch = MessageHub.get_current_instance().get_info('epoch', 0)
            if epoch != self.epoch:
                seen = self.count > 0
                self.earlier.copy_(torch.where(seen, self.average, self.earlier))
                self.average.copy_(torch.where(seen, self.total / self.count, self.average))
                self.total.zero_()
                self.count.zero_()
                self.epoch.fill_(epoch)
            self.total += torch.where(present, values, 0)
            self.count += present
        rates = (self.average / self.earlier).nan_to_num(nan=1.0)
        rates = (rates / self.temperature).masked_fill(~self.active, -torch.inf)
        return self.active.sum() * rates.softmax(dim=0)


@MODELS.register_module()
class RLW(Weighting):
    """Random loss weighting: w = softmax(z), z ~ N(0, 1) for each task, drawn again at every step.

    Lin et al., https://arxiv.org/abs/2111.10603, with the normal distribution, the default of the authors' LibMTL. The
    weights sum to 1, as there, so the loss is a half of the plain sum for two tasks.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.random = StepSeed()

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        drawn = torch.from_numpy(self.random().standard_normal(len(self.tasks))).to(values)
        return drawn.masked_fill(~self.active, -torch.inf).softmax(dim=0)


@MODELS.register_module()
class GLS(Weighting):
    """The geometric mean of the losses, (prod_i L_i)^(1/n), over the n tasks that the batch has labels for.

    MultiNet++'s geometric loss strategy (Chennupati et al., https://arxiv.org/abs/1904.08492). Its gradient is that of
    sum_i w_i L_i with w_i = (prod_j L_j)^(1/n) / (n L_i) held constant, which is how it is computed here, and the two
    have the same value.

    Ours: the mean is over the tasks that have labels, as a loss of zero would make all of it zero; several processes
    take the w of their losses' averages; and a loss counts as `FLOOR` at least.
    """

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        losses, count = values.clamp(min=FLOOR), present.sum().clamp(min=1)
        mean = torch.exp(torch.where(present, losses.log(), 0).sum() / count)
        return torch.where(present, mean / (count * losses), 0)


FLOOR = 1e-6  # of a loss: the n-th root has an infinite slope at zero
