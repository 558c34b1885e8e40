"""A network of linear layers for three tasks, to see what a weighting does to its gradients."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from mmskin.testing.contract import random

__all__ = ['BATCHES', 'TASKS', 'LinearNetwork', 'batches', 'linear_network']

TASKS = ('a', 'b', 'c')
BATCHES = 8


class LinearNetwork(nn.Module):
    """Three tasks on one shared layer; b's loss reads a's head as well, as it would after feature passing."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({'shared': nn.Sequential(nn.Linear(4, 5), nn.Tanh())})
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in TASKS})

    def losses(
        self, images: Tensor, labelled: Collection[str] = TASKS, active: Collection[str] = TASKS
    ) -> dict[str, Tensor]:
        """The active tasks' mean squares of images (N, 4); without labels a connected zero, as of ``Task.loss``."""
        outputs = {task: head(self.backbone['shared'](images)) for task, head in self.heads.items()}
        outputs['b'] = outputs['b'] + 0.5 * outputs['a']
        values = {task: (outputs[task] - number).square().mean() for number, task in enumerate(TASKS, 1)}
        return {task: value if task in labelled else 0 * value for task, value in values.items() if task in active}


def linear_network() -> LinearNetwork:
    """The network with the same weights at every call."""
    torch.manual_seed(0)
    return LinearNetwork()


def batches() -> Tensor:
    """Eight batches of six images (8, 6, 4)."""
    return random(BATCHES, 6, 4, seed=1)
