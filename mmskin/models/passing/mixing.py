"""The base of the operators that mix the maps which leave the block."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmskin.models.passing.adapter import Adapter
from mmskin.models.passing.passing import FeaturePassing, Features

__all__ = ['MixingPassing', 'Stream', 'softmax']


class Stream(nn.Module):
    """What an operator holds for one of the maps that it mixes: for a route's source, or for the target's own.

    Args:
        source: Channels of the map.
        target: Channels of the target's map, to which it is brought.
    """

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.adapter = Adapter(source, target)


class MixingPassing(FeaturePassing):
    """y_i = mix(f_i, {f_j of every route j -> i}): papers that join whole networks mix maps of one depth.

    f is what leaves the block. A branch in which no running route ends keeps its map. A subclass writes ``mix``,
    and where it weighs the maps by what is in them, ``shares`` and ``quantity``. Arguments: see
    ``FeaturePassing``.
    """

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """New outputs of the block, by task; routes from or to a branch that is not running are left out."""
        mixed = {task: self.mix(task, outputs[task], sources) for task, sources in self.mixes(outputs)}
        return {**outputs, **mixed}

    def mix(self, target: str, feature: Tensor, sources: Features) -> Tensor:
        """The map of ``target``, (N, C, H, W) as ``feature``, joined with those of ``sources``, which is not empty."""
        raise NotImplementedError

    def shares(self, target: str, feature: Tensor, sources: Features) -> Sequence[Tensor]:
        """How much of each map is taken, in [0, 1]: the target's own first, then by source; nothing by default."""
        return ()

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The share of each running route's source in its target's map."""
        shares = {
            f'{source}2{task}': share
            for task, sources in self.mixes(outputs)
            for source, share in zip(sources, self.shares(task, outputs[task], sources)[1:], strict=False)
        }
        return {name: shares[name] for name in self.gated(outputs)}

    def mixes(self, outputs: Features) -> Iterator[tuple[str, Features]]:
        """Every branch in which running routes end, with what they bring."""
        sources = {task: self.sources(task, outputs) for task in outputs}
        return ((task, brought) for task, brought in sources.items() if brought)

    def num_sources(self) -> Counter[str]:
        """How many routes end in each branch in which any does."""
        return Counter(target for _, target in self.ends.values())

    def from_source(self, source: str, target: str) -> nn.Module:
        """What is held for the route ``source`` -> ``target``."""
        return self.routes[f'{source}2{target}']

    def streams(self, target: str, own: nn.Module, feature: Tensor, sources: Features) -> list[tuple[Stream, Tensor]]:
        """Each map's ``Stream`` and the map as the target's ``feature`` is: first ``own``, then the sources'."""
        parts = [own, *(self.from_source(source, target) for source in sources)]
        streams = [cast(Stream, part) for part in parts]
        maps = [feature, *sources.values()]
        return [(stream, stream.adapter(x, feature)) for stream, x in zip(streams, maps, strict=True)]


def softmax(logits: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Shares that sum to one over the maps, of one logit or map of logits (N, ...) each."""
    return torch.stack(list(logits)).softmax(dim=0).unbind()
