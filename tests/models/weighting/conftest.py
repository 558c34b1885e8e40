"""The network of the weightings' contract, and its batches."""

import pytest
import torch

from mmskin.registry import MODELS
from mmskin.testing.contract import TASKS, batches, linear_network


@pytest.fixture
def network():
    return linear_network()


@pytest.fixture
def images():
    return batches()


@pytest.fixture
def build():
    """A function that builds a weighting from its name, with the tasks that train."""

    def build_weighting(name, active=TASKS, tasks=TASKS, **options):
        torch.manual_seed(0)
        return MODELS.build(dict(type=name, tasks=list(tasks), active_tasks=list(active), **options))

    return build_weighting
