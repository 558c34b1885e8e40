"""A mixture of experts with a gate for each task."""

from collections.abc import Collection, Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmskin.models.passing.mixing import MixingPassing, Stream, softmax
from mmskin.models.passing.passing import Features
from mmskin.models.passing.sum_op import SumOp
from mmskin.registry import MODELS

__all__ = ['MMoEPassing']


class Expert(nn.Module):
    """E(x) = ReLU(W * x + b), read by every target that a route from its task leads to, and by its task itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, feature: Tensor) -> Tensor:
        """What the expert makes of a map (N, C, H, W)."""
        return self.conv(feature).relu()


class GatedStream(Stream):
    """One expert's row of a target's gate."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__(source, target)
        self.gate = nn.Linear(target, 1, bias=False)


class MixtureTarget(nn.Module):
    """The target's own row of its gate, and the way back to the identity."""

    def __init__(self, channels: int, identity_init: bool) -> None:
        super().__init__()
        self.stream = GatedStream(channels, channels)
        self.op = SumOp(channels, identity_init)


@MODELS.register_module()
class MMoEPassing(MixingPassing):
    """y_i = sum_e g_ie E_e(f_e), g_i = softmax(W_i GAP f_i): a gate of each task weighs experts that all share.

    Multi-gate mixture-of-experts, eq. 6 to 8 of https://doi.org/10.1145/3219819.3220007, in which experts and gates
    read the one input of all tasks. Ours: no map here is shared, so that there is one expert for each task, which reads
    its map, and a task's gate reads the task's own map, averaged over positions; an expert is a 1x1 convolution with
    ReLU; and the start from the identity, f_i + s (y_i - f_i) with a scale s per channel that starts at 0 as in
    ``SumOp``.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names, which say whose experts a target's gate weighs beside its own; by
            default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source. Its expert learns all the same.
        identity_init: Start from f_i alone. Without it there is no s, and y_i stands alone.
    """

    quantity = (
        "the weight of the source's expert, where the weights of all sum to 1: of two experts, 0.5 favours neither"
    )

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        read = {task for ends in self.ends.values() for task in ends}
        self.experts = nn.ModuleDict({task: Expert(out_channels[task]) for task in in_channels if task in read})
        for target in self.num_sources():
            self.targets[target] = MixtureTarget(out_channels[target], identity_init)
        for name, (source, target) in self.ends.items():
            self.routes[name] = GatedStream(out_channels[source], out_channels[target])

    def mix(self, target: str, feature: Tensor, sources: Features) -> Tensor:
        """``feature`` joined with what the experts make of it and of the sources' maps."""
        advice = {source: self.experts[source](x) for source, x in sources.items()}
        streams = self.streams(target, self._target(target).stream, self.experts[target](feature), advice)
        shares = self.shares(target, feature, sources)
        mixed = torch.stack([share * x for share, (_, x) in zip(shares, streams, strict=True)]).sum(dim=0)
        return self._target(target).op(feature, mixed - feature)

    def shares(self, target: str, feature: Tensor, sources: Features) -> tuple[Tensor, ...]:
        """The gate g_ie (N, 1, 1, 1) of each expert."""
        rows = [self._target(target).stream, *(self.from_source(source, target) for source in sources)]
        pooled = feature.mean(dim=(2, 3))
        return softmax([cast(GatedStream, row).gate(pooled)[..., None, None] for row in rows])

    def idle_parts(self, tasks: Collection[str]) -> list[nn.Module]:
        """The parts that do not run when only ``tasks`` do: their weights get no gradient."""
        read = {task for ends in self.running(tasks).values() for task in ends}
        return super().idle_parts(tasks) + [expert for task, expert in self.experts.items() if task not in read]

    def _target(self, target: str) -> MixtureTarget:
        return cast(MixtureTarget, self.targets[target])
