"""Shutting one route of a network's feature passing at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from torch import nn

from mmskin.models.multitask import MultiTaskModel
from mmskin.models.passing.base import FeaturePassing

__all__ = ['closed', 'routes_of']


def routes_of(network: nn.Module) -> dict[str, tuple[FeaturePassing, str]]:
    """Every route that the network uses, as ``blocks.4.2/cls2seg``: its operator, and its name there."""
    return {
        f'{site}/{route}': (cast(FeaturePassing, passing), route)
        for part in network.modules()
        if isinstance(part, MultiTaskModel)
        for site, passing in part.passing_by_site().items()
        for route in cast(FeaturePassing, passing).running(part.active_tasks)
    }


@contextmanager
def closed(network: nn.Module, name: str) -> Iterator[None]:
    """Inside the block nothing passes along the route ``name``, as if the operator had been built without it."""
    passing, route = routes_of(network)[name]
    ends = passing.ends
    passing.ends = {other: pair for other, pair in ends.items() if other != route}
    try:
        yield
    finally:
        passing.ends = ends
