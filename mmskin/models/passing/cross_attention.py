"""Attention of one branch to the positions of another."""

from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.models.passing.passing import check_positive
from mmskin.models.passing.routed_passing import RoutedPassing
from mmskin.models.passing.sum_op import SumOp
from mmskin.registry import MODELS

__all__ = ['CrossAttentionPassing']


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

    def rates(self, source: Tensor, target: Tensor) -> Tensor:
        """How much attention each position of the source gets, (N, 1, h, w), as a share of what the foremost gets.

        It is averaged over the target's positions and the heads; its own sum over the source's positions is always 1,
        and says nothing.
        """
        source = self.pooled(source)
        queries, keys = self.tokens(self.query(target)), self.tokens(self.key(source))
        attention = (queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5).softmax(dim=3).mean(dim=(1, 2))
        return (attention / attention.amax(dim=1, keepdim=True)).unflatten(1, (1, *source.shape[2:]))

    def forward(self, source: Tensor, target: Tensor, feature: Tensor) -> Tensor:
        """``feature`` with what was attended to added."""
        source = self.pooled(source)
        queries, keys, values = map(self.tokens, (self.query(target), self.key(source), self.value(source)))
        attended = F.scaled_dot_product_attention(queries, keys, values)  # (N, heads, HW, d)
        attended = attended.transpose(2, 3).flatten(1, 2).unflatten(2, target.shape[2:])  # (N, channels, H, W)
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
    attends to those of another, so that a message need not stay where it comes from, by scaled dot-product attention
    (https://arxiv.org/abs/1706.03762, eq. 1); a softmax per route, which can then be cut or detached on its own, is
    ours, as is the zero scale. Where the source is large its keys and values are averaged over cells first, as InvPT
    does. There is neither normalisation nor an encoding of positions.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        channels: Of queries, keys and values, all heads together.
        num_heads: Attentions side by side, each with its share of ``channels``.
        max_side: Most cells a side of the map that is attended to.
        identity_init: Start from f alone, by the zero scale of ``SumOp``.

    Raises:
        ValueError: if ``num_heads`` does not divide ``channels``, or one of the numbers is below 1.
    """

    quantity = (
        'the attention that a position of the source gets, over that of the position with the most: near 1 it is '
        'spread evenly, near 0 it is on a few; it does not say how much passes'
    )

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        channels: int = 64,
        num_heads: int = 4,
        max_side: int = 16,
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        check_positive(channels=channels, num_heads=num_heads, max_side=max_side)
        if channels % num_heads:
            raise ValueError(f'{channels} channels cannot be shared by {num_heads} heads; choose a multiple')
        for name, (source, target) in self.ends.items():
            widths = out_channels[source], out_channels[target]
            self.routes[name] = CrossAttentionRoute(*widths, channels, num_heads, max_side, identity_init)
