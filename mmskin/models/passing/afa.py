"""Adaptive feature aggregation, by channel and by position."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmskin.models.passing.mixing import MixingPassing, Stream, softmax
from mmskin.models.passing.passing import Features, check_positive
from mmskin.models.passing.sum_op import SumOp
from mmskin.registry import MODELS

__all__ = ['AFAPassing']

NARROWEST = 32  # of the channel weights' hidden layer, as in the authors' code
KERNEL_SIZE = 7  # of the spatial weights' convolution, likewise


class AggregationStream(Stream):
    """One map's parts of the layers that give the weights."""

    def __init__(self, source: int, target: int, hidden: int, means: int) -> None:
        super().__init__(source, target)
        self.squeeze = nn.Linear(target, hidden, bias=False)
        self.channel = nn.Linear(hidden, target, bias=False)
        self.spatial = nn.Conv2d(means, 1, KERNEL_SIZE, padding=KERNEL_SIZE // 2)


class AggregationTarget(nn.Module):
    """The target's own stream, and the way back to the identity."""

    def __init__(self, channels: int, hidden: int, identity_init: bool) -> None:
        super().__init__()
        self.stream = AggregationStream(channels, channels, hidden, means=1)
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, aggregated: Tensor) -> Tensor:
        """``aggregated``, or what lies between it and ``feature``."""
        return self.op(feature, aggregated - feature)


Streams = list[tuple[AggregationStream, Tensor]]


@MODELS.register_module()
class AFAPassing(MixingPassing):
    """y_i = p_ii (.) z_ii + sum_j p_ij (.) z_ij, z_ii = c_ii (.) f_i + sum_j c_ij (.) f_j: weights by image.

    The layer of AFANet, adaptive feature aggregation, https://doi.org/10.1145/3340531.3412132: first weights per
    channel, c_i = softmax over tasks of V_i ReLU(W_i [GAP f_1; ...; GAP f_T]), which give each task's z; then weights
    per position, p_i = softmax over tasks of a 7x7 convolution of the means of the z over channels. The paper's text
    could not be had; the equations are those of the authors' code, https://github.com/zhenshen-mla/AFANet, for two
    tasks. One version of it has weights of each task's own and this convolution; a later one weights that both tasks
    use, w_self z + w_other z', without biases in c, and a fully connected layer over positions, which fits one size of
    map alone. Ours: weights of each target's own, with which it also makes the z of its sources, z_ij = z_ii with f_i
    and f_j changing places, so that nothing comes in that no route brings; the logit of a source's position reads z_ij
    and z_ii; no ReLU at the end, as maps that a ReLU gave stay positive; and the start from the identity,
    f_i + s (y_i - f_i) with a scale s per channel that starts at 0 as in ``SumOp``.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: Start from f_i alone. Without it there is no s, and y_i stands alone.
        reduction: W gives the channels of all maps over this many, though 32 at least.
    """

    quantity = "the source's share in the mix of all maps, where shares sum to 1: of two maps, 0.5 favours neither"

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
        reduction: int = 16,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        check_positive(reduction=reduction)
        maps = {target: 1 + count for target, count in self.num_sources().items()}
        hidden = {end: max(count * out_channels[end] // reduction, NARROWEST) for end, count in maps.items()}
        for target, width in hidden.items():
            self.targets[target] = AggregationTarget(out_channels[target], width, identity_init)
        for name, (source, target) in self.ends.items():
            widths = out_channels[source], out_channels[target], hidden[target]
            self.routes[name] = AggregationStream(*widths, means=2)

    def mix(self, target: str, feature: Tensor, sources: Features) -> Tensor:
        """``feature`` joined with what is taken of the sources' maps."""
        streams = self._streams(target, feature, sources)
        return self.targets[target](feature, weighted(shares_of(streams), [x for _, x in streams]))

    def shares(self, target: str, feature: Tensor, sources: Features) -> list[Tensor]:
        """What both steps together take of each map, (N, C, H, W)."""
        return shares_of(self._streams(target, feature, sources))

    def _streams(self, target: str, feature: Tensor, sources: Features) -> Streams:
        own = cast(AggregationTarget, self.targets[target]).stream
        return cast(Streams, self.streams(target, own, feature, sources))


def shares_of(streams: Streams) -> list[Tensor]:
    """How much of each map y_i holds: of f_j, p_ij of what z_ij takes, and of what all other z take the rest."""
    own, *others = by_channel = channel_weights(streams)
    feature, *maps = [x for _, x in streams]
    z = weighted(by_channel, [feature, *maps])
    swapped = [z + (own - other) * (x - feature) for other, x in zip(others, maps, strict=True)]
    first, *by_position = spatial_weights(streams, [z, *swapped])
    pairs = list(zip(others, by_position, strict=True))
    kept = sum((channel * position for channel, position in pairs), start=first * own)
    return [kept, *((1 - position) * channel + position * own for channel, position in pairs)]


def channel_weights(streams: Streams) -> tuple[Tensor, ...]:
    """c_ij (N, C, 1, 1) of each map."""
    squeezed = [part.squeeze(x.mean(dim=(2, 3))) for part, x in streams]
    hidden = torch.stack(squeezed).sum(dim=0).relu()
    return softmax([part.channel(hidden)[..., None, None] for part, _ in streams])


def spatial_weights(streams: Streams, aggregated: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """p_ij (N, 1, H, W) of each of the maps z, the target's first."""
    own, *others = [z.mean(dim=1, keepdim=True) for z in aggregated]
    means = [own, *(torch.cat([own, other], dim=1) for other in others)]
    return softmax([part.spatial(mean) for (part, _), mean in zip(streams, means, strict=True)])


def weighted(weights: Iterable[Tensor], maps: Iterable[Tensor]) -> Tensor:
    """The weighted sum of ``maps``."""
    return torch.stack([weight * x for weight, x in zip(weights, maps, strict=True)]).sum(dim=0)
