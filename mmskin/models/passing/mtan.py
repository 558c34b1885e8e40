"""Attention of one task to another's features, as in MTAN."""

from collections.abc import Iterable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmskin.models.passing.adapter import Adapter, resize
from mmskin.models.passing.batch_norm import BatchNorm
from mmskin.models.passing.passing import FeaturePassing, Features, check_positive
from mmskin.models.passing.sum_op import SumOp
from mmskin.registry import MODELS

__all__ = ['MTANPassing']


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

    def rates(self, before: Tensor, own: Tensor) -> Tensor:
        """s([u ; prev]) at the resolution of ``own``, which is prev; ``before`` is u."""
        return self.attention(torch.cat([resize(before, own), own], dim=1))

    def forward(self, before: Tensor, after: Tensor, own: Tensor, feature: Tensor) -> Tensor:
        """``feature`` with what the attention takes of ``after``, which is p."""
        rates = resize(self.rates(before, own), feature)
        return self.op(feature, rates * self.adapter(after, feature))


@MODELS.register_module()
class MTANPassing(FeaturePassing):
    """f_i <- f_i + s sum_j a_ij (.) f_j, a_ij = sigmoid(BN W2 ReLU(BN W1 [x_j ; x_i])): each task picks features.

    The attention module of MTAN, eq. 1 and 2 of https://arxiv.org/abs/1803.10704, a (.) p with
    a = sigmoid(BN W2 ReLU(BN W1 [u ; prev])): u enters and p leaves a block of the network that all share, prev is the
    task's own map from the block before; W1 and W2 are 1x1 convolutions. Ours: no block here is shared, so that each
    source's branch stands for that network, u = x_j and p = f_j, and prev is x_i. The paper's tasks have no blocks of
    their own, so that a (.) p is all they go on with; here it is added to f_i, scaled by s as in ``SumOp``. The
    3x3 convolution that hands a (.) p on in the paper is the target's next block.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: Start from f_i alone, with s = 0. Without it there is no s.
        reduction: W1 gives the target's channels over this many; 4 in the authors' code for ResNets.
    """

    quantity = 'the attention by which the source is multiplied: 0 lets nothing of it pass, 1 all of it'

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
        reduction: int = 4,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        check_positive(reduction=reduction)
        for name, (source, target) in self.ends.items():
            reads = in_channels[source] + in_channels[target]
            widths = out_channels[source], out_channels[target]
            self.routes[name] = AttentionRoute(reads, *widths, reduction, identity_init)

    def forward(self, inputs: Features, outputs: Features) -> Features:
        """New outputs of the block, by task; routes from or to a branch that is not running are left out."""
        new = dict(outputs)
        for name, (source, target) in self.running(inputs).items():
            before, after = (self.brought(name, maps[source]) for maps in (inputs, outputs))
            new[target] = self.routes[name](before, after, inputs[target], new[target])
        return new

    def gates(self, inputs: Features, outputs: Features) -> dict[str, Tensor]:
        """The attention a_ij (N, C, h, w) of each route that runs, at the resolution of x_i."""
        running = self.running(inputs).items()
        return {name: self._route(name).rates(inputs[source], inputs[end]) for name, (source, end) in running}

    def _route(self, name: str) -> AttentionRoute:
        return cast(AttentionRoute, self.routes[name])
