"""The bases of the operators, and the parts that several of them use."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import permutations
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.gates import SumOp
from mmskin.models.watch import CLOSED
from mmskin.registry import MODELS

Features = dict[str, Tensor]  # maps by task
Route = tuple[str, str]
OPENING = 'how far its gate is open: 0 lets nothing of the message pass, 1 all of it'


class FeaturePassing(nn.Module):
    """Lets branches exchange features at one block, along routes.

    A subclass extends ``RoutedPassing`` or ``MixingPassing``, or writes ``forward``, in which it reads a source through
    ``brought`` and follows the routes that are ``running``. Its parts live in four homes, from which ``idle_parts``
    knows whose parameters get no gradient, as distributed training demands:

    - ``self.routes``, by the name of a route (``cls2seg``), for what runs with it;
    - ``self.sources`` and ``self.targets``, by task, for what runs with any route that starts or ends there;
    - ``self.shared``, by any name, for what runs with any route at all.

    An operator with ``gates`` says in ``quantity`` what their numbers mean.

    At several sites of one tuple, what left the site before is what enters. An operator that needs more of its past,
    such as tokens, extends ``CarryingPassing``.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default ``default_routes``.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: Start from y_i = f_i, so that joining trained branches changes nothing at first. Without it the
            operator starts as its equation says.

    Raises:
        ValueError: if a route names an unknown task, leads back to its source or appears twice, or if ``detach`` names
            something that is not a route.
    """

    carries: ClassVar[bool] = False  # True: it is a ``CarryingPassing``
    chained: ClassVar[bool] = False  # True: what came by one route travels on by the next, through the branch between
    mixes_images: ClassVar[bool] = False  # True: an image's outcome depends on the others in its batch
    mixes_own: ClassVar[bool] = False  # True: a target is one of its own sources
    quantity: str = ''  # what `gates` gives of a route, for whoever reads the mean; '' for an operator without gates
    routes: Any  # the four are ModuleDicts; a type checker does not know what they hold
    sources: Any
    targets: Any
    shared: Any

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[Route] | None = None,
        detach: Iterable[Route] = (),
        identity_init: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = dict(in_channels), dict(out_channels)
        self.ends = _named(self.default_routes(in_channels) if routes is None else routes, in_channels)
        self.detached = frozenset(_named(detach, in_channels))
        if unknown := self.detached - self.ends.keys():
            raise Mistake(f'detach names {", ".join(sorted(unknown))}; the routes are {", ".join(self.ends)}')
        self.identity_init = identity_init
        self.routes, self.targets, self.sources, self.shared = (nn.ModuleDict() for _ in range(4))

    @staticmethod
    def default_routes(tasks: Iterable[str]) -> Iterable[Route]:
        """Every ordered pair of ``tasks``."""
        return permutations(tasks, 2)

    def forward(self, inputs: Features, outputs: Features) -> Any:
        """``outputs`` with the targets' maps replaced, each of its own size.

        Args:
            inputs: What entered the block, by the branches that run.
            outputs: What the block made of it, by the same branches. Routes from or to others are left out.
        """
        raise NotImplementedError

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The ``quantity`` of each ``gated`` route, in [0, 1], (N, C or 1, h or 1, w or 1); of none by default."""
        return {}

    def gated(self, tasks: Collection[str]) -> dict[str, Route]:
        """The routes that ``gates`` describes when ``tasks`` run, by name: all, if there is a quantity."""
        return self.running(tasks) if self.quantity else {}

    def losses(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """What joins the losses in training, scalars by names that start with ``loss_``; nothing by default."""
        return {}

    def running(self, tasks: Collection[str]) -> dict[str, Route]:
        """The routes whose two ends are both among ``tasks``, by name, less those that this call has ``closed``."""
        running = {name: ends for name, ends in self.ends.items() if {*ends} <= {*tasks}}
        return {name: ends for name, ends in running.items() if (self, name) not in CLOSED.get()}

    def running_targets(self, tasks: Collection[str]) -> list[str]:
        """Those of ``tasks`` in which a running route ends."""
        ends = {target for _, target in self.running(tasks).values()}
        return [task for task in tasks if task in ends]

    def brought(self, route: str, feature: Tensor) -> Tensor:
        """The source's ``feature`` as ``route`` may read it: cut from the graph if the route is detached."""
        return feature.detach() if route in self.detached else feature

    def idle_parts(self, tasks: Collection[str]) -> list[nn.Module]:
        """The parts that do not run when only ``tasks`` do: their parameters get no gradient."""
        running, targets = self.running(tasks), self.running_targets(tasks)
        sources = [source for source, _ in running.values()] + (targets if self.mixes_own else [])
        homes = (self.routes, running), (self.targets, targets), (self.sources, sources)
        idle = [part for home, busy in homes for name, part in home.items() if name not in busy]
        return idle if running else [*idle, *self.shared.values()]


def _named(routes: Iterable[Route], tasks: Collection[str]) -> dict[str, Route]:
    """Checked routes by their name, ``cls2seg``."""
    routes = list(routes)
    for route in routes:
        if isinstance(route, str) or len(route) != 2:
            raise Mistake(f"routes has {route!r}; it is a list of pairs (source, target), as [('cls', 'seg')]")
    for source, target in routes:
        if {source, target} - {*tasks} or source == target:
            raise Mistake(f'route {source} -> {target}: a route joins two of the tasks {", ".join(tasks)}')
    ends = {f'{source}2{target}': (source, target) for source, target in routes}
    if len(ends) < len(routes):
        raise Mistake(f'two routes have one name: {", ".join(f"{s}2{t}" for s, t in routes)}')
    return ends


@MODELS.register_module()
class NoPassing(FeaturePassing):
    """y_i = f_i: branches share the blocks before their split and nothing after it, which is hard sharing.

    It takes the options that all operators have and ignores them, so that a comparison changes nothing but the type.

    Args:
        options: See ``FeaturePassing``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ends = {}

    def forward(self, inputs: Features, outputs: Features) -> Features:
        return dict(outputs)


class CarryingPassing(FeaturePassing):
    """An operator with a state of its own that travels with the maps, from site to site of a tuple in the config.

    It may be anything, such as tokens by task. It is None at the first site, the next one gets what ``forward`` gave,
    and the last one's is left, so that no parameter may be there for the next site alone: distributed training would
    wait for its gradient.
    """

    carries = True

    def forward(self, inputs: Features, outputs: Features, state: Any = None) -> tuple[Features, Any]:
        """The maps as of every operator, and the state for the next site; ``state`` itself has to stay as it is."""
        raise NotImplementedError

    def gates(self, inputs: Features, outputs: Features, state: Any = None) -> dict[str, Tensor]:
        return {}

    def losses(self, inputs: Features, outputs: Features, state: Any = None) -> dict[str, Tensor]:
        return {}


class Maps(NamedTuple):
    """A branch's maps at the block: ``x`` enters it and ``f`` leaves it, (N, C, H, W) each."""

    x: Tensor
    f: Tensor


class RoutedPassing(FeaturePassing):
    """f_i <- r_{j->i}(j, i, f_i) for every route j -> i, where r is the route's own module.

    A subclass fills ``self.routes`` with modules that are called with the ``Maps`` of source and target and the
    target's output so far, and return the new output. Routes with the same target are applied in the order of
    ``routes``, each to the result of the one before; the ``Maps`` they read do not change. With a ``quantity``, a
    route's method ``rates`` gives it, for the two ``Maps``.
    """

    def forward(self, inputs: Features, outputs: Features) -> Features:
        new = dict(outputs)
        for name, (_, target) in self.running(inputs).items():
            new[target] = self.routes[name](*self._read(name, inputs, outputs), new[target])
        return new

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        return {name: self.routes[name].rates(*self._read(name, inputs, outputs)) for name in self.gated(inputs)}

    def _read(self, route: str, inputs: Features, outputs: Features) -> tuple[Maps, Maps]:
        source, target = self.ends[route]
        brought = Maps(self.brought(route, inputs[source]), self.brought(route, outputs[source]))
        return brought, Maps(inputs[target], outputs[target])


Streams = list[tuple[Any, Tensor]]  # the stream of each map, and the map as the stream brings it to the target


class MixingPassing(FeaturePassing):
    """y_i = m_i(f_i, {f_j of every route j -> i}): papers that join whole networks mix maps of one depth.

    f is what leaves the block. A branch in which no running route ends keeps its map. A subclass calls ``mix_by``. A
    module in ``self.sources`` is applied to its task's map before any target mixes it, the task itself included.
    """

    mixes_own = True

    def mix_by(self, stream: Callable[[str, str], nn.Module], mixture: Callable[[str, nn.Module], nn.Module]) -> None:
        """Fill ``self.targets`` and ``self.routes``.

        ``stream`` gives for (source, target) the module, mostly an ``Adapter``, that brings the source's map to the
        target's shape, and for (target, target) that of its own map. ``mixture`` gives the ``Mixture`` of a target.
        """
        for target in self.num_sources():
            self.targets[target] = mixture(target, stream(target, target))
        for name, ends in self.ends.items():
            self.routes[name] = stream(*ends)

    def num_sources(self) -> Counter[str]:
        """How many routes end in each branch in which any does."""
        return Counter(target for _, target in self.ends.values())

    def forward(self, inputs: Features, outputs: Features) -> Features:
        targets = self.running_targets(outputs)
        mixed = {task: self.targets[task](outputs[task], self._streams(task, outputs)) for task in targets}
        return {**outputs, **mixed}

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The share of each gated route's source in its target's map."""
        gated, running = self.gated(outputs), self.running(outputs).items()
        rates: dict[str, Tensor] = {}
        for target in {target for _, target in gated.values()}:
            shares = self.targets[target].shares(outputs[target], self._streams(target, outputs))
            rates.update(zip([name for name, (_, end) in running if end == target], shares[1:], strict=True))
        return {name: rates[name] for name in gated}

    def _streams(self, target: str, outputs: Features) -> Streams:
        """What ``target`` mixes, its own map first."""
        feature = outputs[target]
        brought = [(self.targets[target].stream, target, feature)]
        for name, (source, end) in self.running(outputs).items():
            if end == target:
                brought.append((self.routes[name], source, self.brought(name, outputs[source])))
        maps = [self.sources[task](x) if task in self.sources else x for _, task, x in brought]
        return [(stream, stream(x, feature)) for (stream, *_), x in zip(brought, maps, strict=True)]


class Mixture(nn.Module):
    """A target of ``MixingPassing``: the sum of all maps, its own brought by ``stream``, the others by routes."""

    def __init__(self, stream: nn.Module) -> None:
        super().__init__()
        self.stream = stream

    def forward(self, feature: Tensor, streams: Streams) -> Tensor:
        """The mix of ``streams``, the target's own first, in the shape of ``feature``, the target's map."""
        own, *brought = [x for _, x in streams]
        return sum(brought, start=own)


class WeighedMixture(Mixture):
    """f_i + s (sum_j p_ij (.) f_j - f_i), where ``shares`` gives p_ij, and s is as in ``SumOp``."""

    def __init__(self, stream: nn.Module, channels: int, identity_init: bool) -> None:
        super().__init__(stream)
        self.op = SumOp(channels, identity_init)

    def shares(self, feature: Tensor, streams: Streams) -> Sequence[Tensor]:
        """How much of each map is taken, in [0, 1], in the order of ``streams``."""
        raise NotImplementedError

    def forward(self, feature: Tensor, streams: Streams) -> Tensor:
        shares = self.shares(feature, streams)
        mixed = torch.stack([share * x for share, (_, x) in zip(shares, streams, strict=True)]).sum(dim=0)
        return self.op(feature, mixed - feature)


class Adapter(nn.Module):
    """Brings a map to another's channels, by a 1x1 convolution if they differ, and to its size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        same = in_channels == out_channels
        self.conv = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        """``source`` (N, in_channels, h, w) as (N, out_channels, H, W), the shape of ``feature``."""
        return resize(self.conv(source), feature)


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's, but with the running statistics where a channel has one value, as in one image's 1x1 map.

    PyTorch raises an error there in training, since it would divide by a variance of 0.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        if self.training and input[:, 0].numel() == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


def resize(feature: Tensor, like: Tensor) -> Tensor:
    """``feature`` (N, C, h, w) at the height and width of ``like``, bilinear; unchanged where they agree already."""
    if feature.shape[2:] == like.shape[2:]:
        return feature
    return F.interpolate(feature, like.shape[2:], mode='bilinear', align_corners=False)
