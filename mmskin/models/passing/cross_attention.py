"""Attention of one branch to the positions of another."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import Maps, RoutedPassing, check_positive
from mmskin.models.passing.ops import SumOp
from mmskin.registry import MODELS


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
        Mistake: if ``num_heads`` does not divide ``channels``, or one of the numbers is below 1.
    """

    quantity = (
        'the attention that a position of the source gets, over that of the position with the most: near 1 it is '
        'spread evenly, near 0 it is on a few; it does not say how much passes'
    )

    def __init__(self, *args: Any, channels: int = 64, num_heads: int = 4, max_side: int = 16, **options: Any) -> None:
        super().__init__(*args, **options)
        check_positive(channels=channels, num_heads=num_heads, max_side=max_side)
        if channels % num_heads:
            raise Mistake(f'{channels} channels cannot be shared by {num_heads} heads; choose a multiple')
        for name, (source, target) in self.ends.items():
            self.routes[name] = CrossAttentionRoute(
                self.out_channels[source], self.out_channels[target], channels, num_heads, max_side, self.identity_init
            )
