"""Adaptive feature aggregation, by channel and by position."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import Adapter, MixingPassing, Streams, WeighedMixture, check_positive
from mmskin.registry import MODELS

NARROWEST = 32  # of the channel weights' hidden layer, as in the authors' code
KERNEL_SIZE = 7  # of the spatial weights' convolution, likewise


class AggregationStream(Adapter):
    """One map's parts of the layers that give the weights."""

    def __init__(self, source: int, target: int, hidden: int, means: int) -> None:
        super().__init__(source, target)
        self.squeeze = nn.Linear(target, hidden, bias=False)
        self.channel = nn.Linear(hidden, target, bias=False)
        self.spatial = nn.Conv2d(means, 1, KERNEL_SIZE, padding=KERNEL_SIZE // 2)


class AggregationMixture(WeighedMixture):
    """f_i + s (p_ii (.) z_ii + sum_j p_ij (.) z_ij - f_i)."""

    def shares(self, feature: Tensor, streams: Streams) -> list[Tensor]:
        """The weight of each map in y_i over both steps, (N, C, H, W)."""
        hidden = torch.relu(sum(stream.squeeze(x.mean(dim=(2, 3))) for stream, x in streams))
        logits = torch.stack([stream.channel(hidden)[..., None, None] for stream, _ in streams])
        by_channel = logits.softmax(dim=0).unbind()  # c_ij (N, C, 1, 1)
        z = torch.stack([c * x for c, (_, x) in zip(by_channel, streams, strict=True)]).sum(dim=0)  # z_ii
        (own, *others), (feature, *maps) = by_channel, [x for _, x in streams]
        swapped = [z + (own - other) * (x - feature) for other, x in zip(others, maps, strict=True)]  # z_ij

        mean, *means = [x.mean(dim=1, keepdim=True) for x in (z, *swapped)]
        read = [mean, *(torch.cat([mean, other], dim=1) for other in means)]
        logits = torch.stack([stream.spatial(x) for (stream, _), x in zip(streams, read, strict=True)])
        first, *by_position = logits.softmax(dim=0).unbind()  # p_ij (N, 1, H, W)

        pairs = list(zip(others, by_position, strict=True))
        kept = sum((channel * position for channel, position in pairs), start=first * own)
        return [kept, *((1 - position) * channel + position * own for channel, position in pairs)]


@MODELS.register_module()
class AFAPassing(MixingPassing):
    """y_i = p_ii (.) z_ii + sum_j p_ij (.) z_ij, z_ii = c_ii (.) f_i + sum_j c_ij (.) f_j: weights by image.

    The layer of AFANet, adaptive feature aggregation, https://doi.org/10.1145/3340531.3412132: first weights per
    channel, c_i = softmax over tasks of V_i ReLU(W_i [GAP f_1; ...; GAP f_T]), which give each task's z; then weights
    per position, p_i = softmax over tasks of a 7x7 convolution of the means of the z over channels. We could not get
    the paper's text; the equations are those of the authors' code, https://github.com/zhenshen-mla/AFANet, for two
    tasks. One version of it has weights of each task's own and this convolution; a later one has weights that both
    tasks use, w_self z + w_other z', no biases in c, and a fully connected layer over positions, which fits one size of
    map only. Ours: weights of each target's own, with which it also makes the z of its sources, z_ij = z_ii with f_i
    and f_j changing places, so that nothing comes in that no route brings; the logit of a source's position reads z_ij
    and z_ii; no ReLU at the end, as maps that a ReLU gave stay positive; and the start from the identity,
    f_i + s (y_i - f_i) with s as in ``SumOp``.

    Args:
        reduction: W gives the channels of all maps over this many, though 32 at least.
        options: See ``FeaturePassing``; without ``identity_init`` there is no s.
    """

    quantity = "the source's share in the mix of all maps, where shares sum to 1: of two maps, 0.5 favours neither"

    def __init__(self, *args: Any, reduction: int = 16, **options: Any) -> None:
        super().__init__(*args, **options)
        check_positive(reduction=reduction)
        out, count = self.out_channels, self.num_sources()

        def stream(source: str, target: str) -> nn.Module:
            hidden = max((1 + count[target]) * out[target] // reduction, NARROWEST)
            return AggregationStream(out[source], out[target], hidden, means=1 if source == target else 2)

        self.mix_by(stream, lambda target, own: AggregationMixture(own, out[target], self.identity_init))
