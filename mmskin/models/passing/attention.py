"""Operators that attend: what a branch takes depends on its own map, on the image, or on the other branch's answer."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import (
    Adapter,
    BatchNorm,
    Maps,
    MixingPassing,
    Route,
    RoutedPassing,
    Streams,
    WeighedMixture,
    resize,
)
from mmskin.models.passing.gates import ConcatOp, SumOp
from mmskin.registry import MODELS


class AttentionRoute(nn.Module):
    """The attention of one target to one source, and what it lets through."""

    def __init__(self, reads: int, source: int, target: int, reduction: int, identity_init: bool) -> None:
        super().__init__()
        hidden = max(target // reduction, 1)
        self.attention = nn.Sequential(
            nn.Conv2d(reads, hidden, 1, bias=False),  # no biases before batch norm
            BatchNorm(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, target, 1, bias=False),
            BatchNorm(target),
            nn.Sigmoid(),
        )
        self.adapter = Adapter(source, target)
        self.op = SumOp(target, identity_init)

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """The attention a_ij (N, C, h, w), at the resolution of x_i."""
        return self.attention(torch.cat([resize(source.x, target.x), target.x], dim=1))

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        rates = resize(self.rates(source, target), feature)
        return self.op(feature, rates * self.adapter(source.f, feature))


@MODELS.register_module()
class MTANPassing(RoutedPassing):
    """f_i <- f_i + s sum_j a_ij (.) f_j, a_ij = sigmoid(BN W2 ReLU(BN W1 [x_j ; x_i])): each task picks features.

    The attention module of MTAN, eq. 1 and 2 of https://arxiv.org/abs/1803.10704, a (.) p with
    a = sigmoid(BN W2 ReLU(BN W1 [u ; prev])): u enters and p leaves a block of the network that all share, prev is the
    task's own map from the block before; W1 and W2 are 1x1 convolutions. Ours: no block here is shared, so that each
    source's branch takes the place of that network, u = x_j and p = f_j, and prev is x_i. The paper's tasks have no
    blocks of their own, so that a (.) p is all they get; here it is added to f_i, scaled by s as in ``SumOp``.
    The 3x3 convolution that hands a (.) p on in the paper is the target's next block.

    Args:
        reduction: W1 gives the target's channels over this many; 4 in the authors' code for ResNets.
        options: See ``FeaturePassing``; without ``identity_init`` there is no s.
    """

    quantity = 'the attention by which the source is multiplied: 0 lets nothing of it pass, 1 all of it'

    def __init__(self, *args: Any, reduction: int = 4, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        for name, (source, target) in self.ends.items():
            reads = self.in_channels[source] + self.in_channels[target]
            self.routes[name] = AttentionRoute(reads, out[source], out[target], reduction, self.identity_init)


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
        out, count = self.out_channels, self.num_sources()

        def stream(source: str, target: str) -> nn.Module:
            hidden = max((1 + count[target]) * out[target] // reduction, NARROWEST)
            return AggregationStream(out[source], out[target], hidden, means=1 if source == target else 2)

        self.mix_by(stream, lambda target, own: AggregationMixture(own, out[target], self.identity_init))


class CrossAttentionRoute(nn.Module):
    """softmax(Q_i K_j^T / sqrt(d)) V_j, brought to the target's channels and added to its output."""

    def __init__(
        self, source: int, target: int, channels: int, num_heads: int, max_side: int, identity_init: bool
    ) -> None:
        super().__init__()
        self.num_heads, self.max_side = num_heads, max_side
        self.query = nn.Conv2d(target, channels, 1, bias=False)
        self.key, self.value = (nn.Conv2d(source, channels, 1, bias=False) for _ in range(2))
        self.out = nn.Conv2d(channels, target, 1)
        self.op = SumOp(target, identity_init)

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """The attention that each position of the source gets, (N, 1, h, w), as a share of the largest.

        It is averaged over the target's positions and the heads. Shares of the sum would say nothing: that is always 1.
        """
        pooled = self.pooled(source.f)
        queries, keys = map(self.tokens, (self.query(target.f), self.key(pooled)))
        attention = (queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5).softmax(dim=3).mean(dim=(1, 2))
        return (attention / attention.amax(dim=1, keepdim=True)).unflatten(1, (1, *pooled.shape[2:]))

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        pooled = self.pooled(source.f)
        queries, keys, values = map(self.tokens, (self.query(target.f), self.key(pooled), self.value(pooled)))
        attended = F.scaled_dot_product_attention(queries, keys, values)  # (N, heads, HW, d)
        attended = attended.transpose(2, 3).flatten(1, 2).unflatten(2, target.f.shape[2:])  # (N, channels, H, W)
        return self.op(feature, self.out(attended))

    def pooled(self, source: Tensor) -> Tensor:
        """The map averaged to ``max_side`` cells a side, if it has more."""
        height, width = (min(side, self.max_side) for side in source.shape[2:])
        return source if (height, width) == source.shape[2:] else F.adaptive_avg_pool2d(source, (height, width))

    def tokens(self, x: Tensor) -> Tensor:
        """A map (N, channels, h, w) as (N, heads, h w, d)."""
        return x.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3)


@MODELS.register_module()
class CrossAttentionPassing(RoutedPassing):
    """f_i <- f_i + sum_j Wo softmax(Q_i K_j^T / sqrt(d)) V_j, where Q_i = Wq f_i, K_j = Wk f_j and V_j = Wv f_j.

    InvPT (https://arxiv.org/abs/2203.07997) attends over the positions of all tasks at once, MT-TransUNet
    (https://arxiv.org/abs/2112.01767) lets tokens of both tasks attend to each other. Here each position of one branch
    attends to those of another, so that a message can travel to another place, by scaled dot-product attention
    (https://arxiv.org/abs/1706.03762, eq. 1). Ours: a softmax per route, which can be cut or detached on its own, and
    the start from the identity by ``SumOp``. Where the source is large, its keys and values are first averaged over
    cells, as in InvPT. There is neither normalisation nor an encoding of positions.

    Args:
        channels: Of queries, keys and values, all heads together.
        num_heads: Parallel attentions, each with its share of ``channels``.
        max_side: Longest side, in cells, of the map that is attended to; a larger one is averaged down.
        options: See ``FeaturePassing``.

    Raises:
        Mistake: if ``num_heads`` does not divide ``channels``.
    """

    quantity = (
        'the attention that a position of the source gets, over that of the position with the most: near 1 it is '
        'spread evenly, near 0 it is on a few; it does not say how much passes'
    )

    def __init__(self, *args: Any, channels: int = 64, num_heads: int = 4, max_side: int = 16, **options: Any) -> None:
        super().__init__(*args, **options)
        if channels % num_heads:
            raise Mistake(f'{channels} channels cannot be shared by {num_heads} heads; choose a multiple')
        for name, (source, target) in self.ends.items():
            self.routes[name] = CrossAttentionRoute(
                self.out_channels[source], self.out_channels[target], channels, num_heads, max_side, self.identity_init
            )


class FiLMRoute(nn.Module):
    """(1 + g(c)) (.) f + b(c), g and b linear in c: the source's mean, or the target's under a mask from the source."""

    def __init__(self, source: int, target: int, masked: bool, identity_init: bool) -> None:
        super().__init__()
        self.film = nn.Conv2d(target if masked else source, 2 * target, 1)
        if identity_init:
            for parameter in self.film.parameters():
                nn.init.zeros_(parameter)
        self.mask = nn.Conv2d(source, 1, 1) if masked else None

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """The mask in (0, 1), (N, 1, h, w), at the source's resolution."""
        assert self.mask is not None
        return self.mask(source.f).sigmoid()

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        if self.mask is None:
            context = source.f.mean(dim=(2, 3), keepdim=True)
        else:
            mask = resize(self.rates(source, target), target.f)
            total, area = (part.sum(dim=(2, 3), keepdim=True) for part in (mask * target.f, mask))
            context = total / area.clamp_min(1e-6)  # a mask may be empty throughout
        gamma, beta = self.film(context).chunk(2, dim=1)  # (N, C, 1, 1)
        return (1 + gamma) * feature + beta


@MODELS.register_module()
class FiLMPassing(RoutedPassing):
    """f_i <- g(c_j) (.) f_i + b(c_j), a scale and a shift per channel that follow from c_j, f_j averaged over the map.

    FiLM (https://arxiv.org/abs/1709.07871, eq. 1 and 2), where c is an encoded question; there, too, g = 1 + W c + b is
    learned as its distance from 1. Ours: c_j is another branch's map, and there is a way back from a branch that
    outlines the lesion to one that does not. Then c is the target's own map averaged under a mask, s(w * f_j + b), so
    that the look of the lesion modulates the whole.

    Args:
        masks: Tasks that outline something: routes that start there average under a mask. By default 'seg', if there
            is such a task.
        options: See ``FeaturePassing``; it starts from the identity by g = 1 and b = 0.

    Raises:
        Mistake: if ``masks`` names an unknown task.
    """

    quantity = (
        "the mask under which the target's map is averaged: 1 is inside, 0 outside; it does not say how much passes"
    )

    def __init__(self, *args: Any, masks: Iterable[str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        self.masks = {'seg'} & {*out} if masks is None else {*masks}
        if unknown := self.masks - {*out}:
            raise Mistake(f'masks names {", ".join(sorted(unknown))}; the tasks are {", ".join(out)}')
        for name, (source, target) in self.ends.items():
            self.routes[name] = FiLMRoute(out[source], out[target], source in self.masks, self.identity_init)

    def gated(self, tasks: Collection[str]) -> dict[str, Route]:
        """The running routes that average under a mask, by name."""
        return {name: ends for name, ends in self.running(tasks).items() if ends[0] in self.masks}


class MaskCAMRoute(nn.Module):
    """W [f ; s(w * f_j + b)], with ``num_maps`` maps from the source."""

    def __init__(self, source: int, target: int, num_maps: int, identity_init: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(source, num_maps, 1)
        self.op = ConcatOp(target, identity_init, message_channels=num_maps)

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """The maps in (0, 1), (N, num_maps, h, w), at the source's resolution."""
        return self.head(source.f).sigmoid()

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        return self.op(feature, resize(self.rates(source, target), feature))


@MODELS.register_module()
class MaskCAMPassing(RoutedPassing):
    """f_i <- W [f_i ; M_j], M_j = s(w_j * f_j + b_j): a branch gets another's prediction as maps, not its features.

    After MB-DCNN (https://arxiv.org/abs/1903.03313), where classification reads the image with the lesion's mask, and
    segmentation its features with the class activation map; there, mask and map are the outputs of networks trained
    beforehand. Ours: a 1x1 convolution inside the block predicts them, from features that are not final yet, and learns
    from the losses of the tasks that use them; s, a sigmoid, gives both the range of a mask; and W, 1x1, brings the
    result back to C channels.

    Args:
        num_maps: Maps that a task hands on, by task; 1 for those left out, and e.g. ``dict(cls=3)`` for the activation
            map of each class.
        options: See ``FeaturePassing``; it starts from the identity by W = [I ; 0].

    Raises:
        Mistake: if ``num_maps`` names an unknown task.
    """

    quantity = 'the map that the target reads: 1 is inside, 0 outside; it does not say how much passes'

    def __init__(self, *args: Any, num_maps: Mapping[str, int] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        num_maps, out = num_maps or {}, self.out_channels
        if unknown := num_maps.keys() - {*out}:
            raise Mistake(f'num_maps names {", ".join(sorted(unknown))}; the tasks are {", ".join(out)}')
        for name, (source, target) in self.ends.items():
            self.routes[name] = MaskCAMRoute(out[source], out[target], num_maps.get(source, 1), self.identity_init)
