"""A network with a shared layer and a head per task, as small as one can be."""

import pytest
import torch
from torch import nn

from mmskin.registry import MODELS

TASKS = ('a', 'b', 'c')


class TinyNetwork(nn.Module):
    """Three tasks on one shared layer; b's loss reads a's head as well, as it would after feature passing."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict({'shared': nn.Sequential(nn.Linear(4, 5), nn.Tanh())})
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in TASKS})

    def losses(self, images, labelled=TASKS, active=TASKS):
        """The mean square of each task's output, in the manner of `Task.loss` a connected zero without labels."""
        outputs = {task: head(self.backbone['shared'](images)) for task, head in self.heads.items()}
        outputs['b'] = outputs['b'] + 0.5 * outputs['a']
        values = {task: (outputs[task] - number).square().mean() for number, task in enumerate(TASKS, 1)}
        return {task: value if task in labelled else 0 * value for task, value in values.items() if task in active}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return TinyNetwork()


@pytest.fixture
def images():
    return torch.randn(8, 6, 4, generator=torch.Generator().manual_seed(1))  # eight batches


@pytest.fixture
def build():
    """A function that builds a weighting from its name, with the tasks that train."""

    def build_weighting(name, active=TASKS, tasks=TASKS, **options):
        torch.manual_seed(0)
        return MODELS.build(dict(type=name, tasks=list(tasks), active_tasks=list(active), **options))

    return build_weighting
