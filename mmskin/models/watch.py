"""What belongs to one call of a network, and not to the network: who watches it, and which routes are closed.

Both are context variables: calls in other threads see nothing of them, and nothing is left behind.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.shapes import of_shape

Features = dict[str, Tensor]
Rates = dict[str, dict[str, float]]  # by block and route
Watcher = Callable[..., None]

WATCHERS: ContextVar[tuple[Watcher, ...]] = ContextVar('watchers', default=())
CLOSED: ContextVar[frozenset[tuple[nn.Module, str]]] = ContextVar('closed', default=frozenset())


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside distributed training and test-time augmentation, which hold it as ``module``."""
    while isinstance(inner := getattr(network, 'module', None), nn.Module):
        network = inner
    return network


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Inside the block, ``watcher`` is called before features are passed in this thread.

    It gets the name of the block at which that happens, the operator, and what the operator gets: the maps that entered
    the block and those that left it, each by task, and the state that one which ``carries`` is handed.
    """
    token = WATCHERS.set((*WATCHERS.get(), watcher))
    try:
        yield
    finally:
        WATCHERS.reset(token)


@contextmanager
def closed(operator: nn.Module, route: str) -> Iterator[None]:
    """Inside the block, nothing passes along a route of ``operator`` in this thread, as if it had been built without.

    ``MultiTaskModel.routes`` gives every pair of the two.
    """
    token = CLOSED.set(CLOSED.get() | {(operator, route)})
    try:
        yield
    finally:
        CLOSED.reset(token)


def pass_features(
    site: str, operator: Any, entering: Features, leaving: Features, state: Any = None
) -> tuple[Features, Any]:
    """What ``operator`` gives at the block ``site``, and what it hands on, with the call's watchers looking on.

    Args:
        site: Name of the block.
        operator: A ``FeaturePassing``.
        entering: The maps that entered the block, by task.
        leaving: Those that left it.
        state: What was handed on at the site before; None at the first, and for an operator that carries nothing.
    """
    given = (entering, leaving, state) if operator.carries else (entering, leaving)
    for watcher in WATCHERS.get():
        watcher(site, operator, *given)
    passed = operator(*given)
    maps, handed = passed if operator.carries else (passed, None)
    if not isinstance(maps, dict) or maps.keys() != leaving.keys():
        named = ', '.join(map(str, maps)) if isinstance(maps, dict) else f'a {type(maps).__name__}'
        raise Mistake(f'{type(operator).__name__} returns {named}; return a dict with maps of {", ".join(leaving)}')
    for task, feature in leaving.items():
        of_shape(maps[task], operator, *feature.shape)
    return maps, handed


def rates_of(operator: Any, entering: Features, *given: Any) -> dict[str, Tensor]:
    """What the ``gates`` of an operator give, which gets what a watcher sees.

    Raises:
        Mistake: if it is not a rate of each route that is ``gated``.
    """
    rates, routes = operator.gates(entering, *given), operator.gated(entering)
    if not isinstance(rates, dict) or rates.keys() != routes.keys():
        named = ', '.join(map(str, rates)) if isinstance(rates, dict) else f'a {type(rates).__name__}'
        raise Mistake(
            f'{type(operator).__name__}: gates returns {named}; return a dict with rates of {", ".join(routes)}'
        )
    for route, rate in rates.items():
        low, high = of_shape(rate, operator, 'N', 'C', 'h', 'w').aminmax()
        if not 0 <= low <= high <= 1:
            raise Mistake(f'{type(operator).__name__}: rates of {route} go from {low:.3g} to {high:.3g}; give 0 to 1')
    return rates


class GateRates:
    """The mean passing rates of the forward passes that it has ``watched``.

    They are means of ``MultiTaskModel.gates``, whose numbers the operator's ``quantity`` explains, over channels and
    positions, taken from the maps that pass by anyway: no forward pass of its own. Networks without
    feature passing have none.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Tensor]] = {}

    def note(self, site: str, operator: Any, entering: Features, *given: Any) -> None:
        """Note the rates of the operator at ``site`` as its maps come in."""
        count = len(next(iter(entering.values())))
        for route, rates in rates_of(operator, entering, *given).items():
            means = rates.flatten(1).float().mean(dim=1)  # (N,), or (1,) of a rate that is the same for all images
            self._found.setdefault((site, route), []).append(means.expand(count))

    def by_image(self, count: int) -> list[Rates]:
        """The rates of each of the ``count`` images; where there were several views, their means."""
        images: list[dict[str, Any]] = [{} for _ in range(count)]
        for (site, route), views in self._found.items():
            for image, rate in zip(images, torch.cat(views).view(-1, count).mean(dim=0).tolist(), strict=True):
                image.setdefault(site, {})[route] = rate
        return images
