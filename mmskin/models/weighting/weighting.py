"""What every way of balancing the tasks' losses has in common."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub
from torch import Tensor, nn

from mmskin.models.shapes import of_shape


class Weighting(nn.Module):
    """Turns the tasks' losses into the one that is minimised: sum_i w_i L_i, with L_i the sum of task i's losses.

    A subclass gives the weights (`weights`), or more (`combine`). Its state stands in parameters and buffers that have
    an entry for each of `tasks`, so that all stages share one state dict. Only a resumed run continues it: every
    other run, such as the next stage, takes the network's weights from a checkpoint but lets the method start afresh,
    since its epochs and steps are counted from zero again, and averaged weights come with no average of such counts.

    A single active task has weight 1, whatever the method: there is nothing to balance.

    Args:
        tasks: Names of all tasks of the network, which the network fills in.
        active_tasks: Names of those that train.
    """

    active: Tensor

    def __init__(self, tasks: Sequence[str], active_tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.active_tasks = list(active_tasks)
        self.balances = len(active_tasks) > 1  # or there is nothing to balance
        self.register_buffer('active', torch.tensor([task in active_tasks for task in tasks]))
        self.register_load_state_dict_pre_hook(_note_the_start)
        self._start: dict[str, Tensor] = {}  # the state before one was loaded

    def train(self, mode: bool = True) -> 'Weighting':
        """Switch to training; before a run's first step, what was loaded gives way to a fresh start."""
        if mode and self._start and MessageHub.get_current_instance().get_info('iter') == 0:
            self.load_state_dict(self._start)
        return super().train(mode)

    def forward(
        self, losses: Mapping[str, Tensor], labelled: Collection[str], network: nn.Module
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and the weights to log.

        Args:
            losses: Summed loss of each active task, a scalar; one without labels is a zero that is connected.
            labelled: The tasks for which the batch has a label. The others must not disturb the method.
            network: The network, for methods that look at gradients.
        """
        losses = {task: loss.float() for task, loss in losses.items()}
        present = torch.tensor([task in labelled for task in self.tasks], device=self.active.device)
        if self.balances:
            total, weights = self.combine(losses, present, network)
            of_shape(total, self)
            of_shape(weights, self, len(self.tasks))
        else:
            total, weights = self.vector(losses).sum(), torch.ones(len(self.tasks))
        return total, {task: weights[self.tasks.index(task)].detach() for task in losses}

    def combine(self, losses: Mapping[str, Tensor], present: Tensor, network: nn.Module) -> tuple[Tensor, Tensor]:
        """The loss to minimise, and the weights (T,), from each active task's loss and which tasks have labels (T,)."""
        values = self.vector(losses)
        weights = of_shape(self.weights(*mean_over_processes(values.detach(), present)), self, len(self.tasks))
        return (weights * values).sum(), weights

    def vector(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses (T,) of all tasks, zero for those that rest."""
        zero = torch.zeros_like(next(iter(losses.values())))
        return torch.stack([losses.get(task, zero) for task in self.tasks])

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        """The weights (T,), no gradients attached, from the losses (T,) and which of the tasks have labels.

        Both are those of all processes together, so that the weights are, too.
        """
        raise NotImplementedError(f'{type(self).__name__} does not say how it weighs')


def mean_over_processes(values: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """The losses (T,), averaged over the processes whose batches have labels for the task, and where there is one."""
    both = torch.stack([torch.where(present, values, 0), present.to(values)])
    all_reduce(both)
    total, count = both
    return total / count.clamp(min=1), count > 0


def _note_the_start(module: Weighting, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Keep the module's state for a run that starts afresh, and its own word on which tasks are active."""
    module._start = module._start or {name: value.clone() for name, value in module.state_dict().items()}
    if f'{prefix}active' in state_dict:
        state_dict[f'{prefix}active'] = module.active


class StepSeed(nn.Module):
    """Counts the steps it is asked for, from a seed drawn when the model is built, and so from the run's seed.

    Both numbers are saved with the model. torch's own generator would not do: it is seeded differently in each process,
    whose weights then differ.
    """

    seed: Tensor
    step: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('seed', torch.randint(2**31, ()))
        self.register_buffer('step', torch.tensor(0))

    def forward(self) -> np.random.Generator:
        """The step's generator; in training mode the next call is the next step."""
        generator = np.random.default_rng((int(self.seed), int(self.step)))
        if self.training:
            self.step += 1
        return generator
