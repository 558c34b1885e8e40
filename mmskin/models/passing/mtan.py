"""Attention of one task to another's features, as in MTAN."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import Adapter, BatchNorm, Maps, RoutedPassing, check_positive, resize
from mmskin.models.passing.ops import SumOp
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
    blocks of their own, so that a (.) p is all they go on with; here it is added to f_i, scaled by s as in ``SumOp``.
    The 3x3 convolution that hands a (.) p on in the paper is the target's next block.

    Args:
        reduction: W1 gives the target's channels over this many; 4 in the authors' code for ResNets.
        options: See ``FeaturePassing``; without ``identity_init`` there is no s.
    """

    quantity = 'the attention by which the source is multiplied: 0 lets nothing of it pass, 1 all of it'

    def __init__(self, *args: Any, reduction: int = 4, **options: Any) -> None:
        super().__init__(*args, **options)
        check_positive(reduction=reduction)
        out = self.out_channels
        for name, (source, target) in self.ends.items():
            reads = self.in_channels[source] + self.in_channels[target]
            self.routes[name] = AttentionRoute(reads, out[source], out[target], reduction, self.identity_init)
