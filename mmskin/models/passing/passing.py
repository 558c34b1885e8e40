"""The base of every operator that passes features between branches."""

from collections.abc import Collection, Iterable, Mapping
from itertools import permutations
from typing import ClassVar

from torch import Tensor, nn

__all__ = ['OPENING', 'FeaturePassing', 'Features', 'check_positive']

Features = dict[str, Tensor]
Route = tuple[str, str]
OPENING = 'how far its gate is open: 0 lets nothing of the message pass, 1 all of it'


class FeaturePassing(nn.Module):
    """Lets branches exchange features at one block, along routes.

    A subclass writes ``forward``. Its parameters stand in ``self.routes``, by the name of their route, and in
    ``self.targets``, by the name of the branch in which routes end, so that those which do not run can be told. It
    starts as the identity unless its option ``identity_init`` is False. One with ``gates`` says in ``quantity``
    what their numbers are.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.

    Raises:
        ValueError: if a route names an unknown task, leads back to its source, or stands twice, or if ``detach`` names
            what is no route.
    """

    chained: ClassVar[bool] = False  # True: what came by one route travels on by the next, through the branch between
    quantity: str = ''  # what `gates` gives of a route, for whoever reads the mean; '' for an operator without gates

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[Route] | None = None,
        detach: Iterable[Route] = (),
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = dict(in_channels), dict(out_channels)
        self.ends = named(permutations(in_channels, 2) if routes is None else routes, in_channels)
        self.detached = frozenset(named(detach, in_channels))
        if unknown := self.detached - self.ends.keys():
            raise ValueError(f'detach names {", ".join(sorted(unknown))}; the routes are {", ".join(self.ends)}')
        self.routes, self.targets = nn.ModuleDict(), nn.ModuleDict()

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """What leaves the block once features were passed.

        Args:
            inputs: What entered the block, by the branches that run.
            outputs: What the block made of it, by the same branches.

        Returns:
            ``outputs`` with the targets' maps replaced, each of its own size; routes from or to a branch that is not
            running are left out.
        """
        raise NotImplementedError

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The ``quantity`` of each ``gated`` route, in [0, 1], (N, C or 1, h or 1, w or 1); of none by default."""
        return {}

    def gated(self, tasks: Collection[str]) -> dict[str, Route]:
        """The routes of which ``gates`` says something when ``tasks`` run, by name: all, if there is a quantity."""
        return self.running(tasks) if self.quantity else {}

    def losses(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """What joins the losses in training, scalars by names that start with ``loss_``; nothing by default."""
        return {}

    def running(self, tasks: Collection[str]) -> dict[str, Route]:
        """The routes of which both ends are among ``tasks``, by name."""
        return {name: ends for name, ends in self.ends.items() if {*ends} <= {*tasks}}

    def sources(self, target: str, features: Features) -> Features:
        """What the running routes to ``target`` bring of ``features``, by source; cut from the graph where detached."""
        routes = {name: source for name, (source, end) in self.running(features).items() if end == target}
        return {source: self.brought(name, features[source]) for name, source in routes.items()}

    def brought(self, route: str, feature: Tensor) -> Tensor:
        """The source's ``feature`` as ``route`` may read it."""
        return feature.detach() if route in self.detached else feature

    def idle_parts(self, tasks: Collection[str]) -> list[nn.Module]:
        """The parts that do not run when only ``tasks`` do: their weights get no gradient."""
        running = self.running(tasks)
        ends = {target for _, target in running.values()}
        parts = [part for name, part in self.routes.items() if name not in running]
        return parts + [part for name, part in self.targets.items() if name not in ends]


def check_positive(**options: int) -> None:
    """Raise unless each of the options is 1 or more."""
    for name, value in options.items():
        if value < 1:
            raise ValueError(f'{name} is {value}; it has to be 1 or more')


def named(routes: Iterable[Route], tasks: Collection[str]) -> dict[str, Route]:
    """Routes by their name, ``cls2seg``, after a check."""
    routes = list(routes)
    for route in routes:
        if isinstance(route, str) or len(route) != 2:
            raise ValueError(f"routes has {route!r}; it is a list of pairs (source, target), as [('cls', 'seg')]")
    for source, target in routes:
        if {source, target} - {*tasks} or source == target:
            raise ValueError(f'route {source} -> {target}: a route joins two of the tasks {", ".join(tasks)}')
    ends = {f'{source}2{target}': (source, target) for source, target in routes}
    if len(ends) < len(routes):
        raise ValueError(f'two routes have one name: {", ".join(f"{s}2{t}" for s, t in routes)}')
    return ends
