"""A few tokens between the branches, which travel with them from site to site."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.passing.base import CarryingPassing, Features, check_positive
from mmskin.models.passing.ops import SumOp
from mmskin.registry import MODELS


def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of queries (N, P, d), keys and values (N, S, d)."""
    return (queries @ keys.transpose(1, 2) / queries.shape[2] ** 0.5).softmax(dim=2) @ values


class BottleneckRoute(nn.Module):
    """What a target's tokens take from a source's map."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Conv2d(source, width, 1, bias=False) for _ in range(2))

    def forward(self, tokens: Tensor, source: Tensor) -> Tensor:
        """(N, num_tokens, width) from the tokens and the map (N, C, h, w)."""
        keys, values = (layer(source).flatten(2).transpose(1, 2) for layer in (self.key, self.value))
        return attend(self.query(tokens), keys, values)


class BottleneckTarget(nn.Module):
    """A target's tokens, and what its map takes from them."""

    def __init__(self, channels: int, num_tokens: int, width: int, identity_init: bool) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(num_tokens, width) * 0.02)
        self.query = nn.Conv2d(channels, width, 1, bias=False)
        self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.out = nn.Conv2d(width, channels, 1)
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """The map (N, C, H, W), told by the tokens (N, num_tokens, width)."""
        told = attend(self.query(feature).flatten(2).transpose(1, 2), self.key(tokens), self.value(tokens))
        return self.op(feature, self.out(told.transpose(1, 2).unflatten(2, feature.shape[2:])))


@MODELS.register_module()
class BottleneckPassing(CarryingPassing):
    """z_i <- z_i + mean_j A(z_i, f_j), then f_i <- f_i + A(f_i, z_i): all that branches tell goes through a few tokens.

    Attention bottlenecks, https://arxiv.org/abs/2107.00135, eq. 8 and 9: streams exchange nothing but through tokens
    z, which are few, so that each has to condense what the others need; tokens are updated by each stream and averaged
    (eq. 9), and go on to the next layer. Here they go on to the next site of a tuple, such as
    ``{('/8', '/16', '/32'): dict(type='BottleneckPassing')}``, whatever the widths there: z_i starts at a site from
    what it was at the one before plus the site's own tokens. A(q, x) is attention by queries of q to keys and values of
    x (https://arxiv.org/abs/1706.03762, eq. 1). Ours: z of each target's own, which reads along its routes alone; one
    attention in each direction, with one head, where the paper's streams are transformers; and the start from the
    identity by ``SumOp``.

    Args:
        num_tokens: Of each target; 4 in the paper.
        width: Of a token, at all sites.
        options: See ``FeaturePassing``.
    """

    def __init__(self, *args: Any, num_tokens: int = 4, width: int = 64, **options: Any) -> None:
        super().__init__(*args, **options)
        check_positive(num_tokens=num_tokens, width=width)
        out = self.out_channels
        for target in {target: None for _, target in self.ends.values()}:
            self.targets[target] = BottleneckTarget(out[target], num_tokens, width, self.identity_init)
        for name, (source, _) in self.ends.items():
            self.routes[name] = BottleneckRoute(out[source], width)

    def forward(
        self, inputs: Features, outputs: Features, state: Features | None = None
    ) -> tuple[Features, dict[str, Tensor]]:
        """The maps, and the tokens (N, num_tokens, width) of each target that there has been, by task."""
        tokens, new = dict(state or {}), dict(outputs)
        running = self.running(outputs).items()
        for target in self.running_targets(outputs):
            own = self.targets[target].tokens.expand(outputs[target].shape[0], -1, -1)
            z = tokens[target] + own if target in tokens else own
            told = [
                self.routes[r](z, self.brought(r, outputs[source])) for r, (source, end) in running if end == target
            ]
            tokens[target] = z + torch.stack(told).mean(dim=0)
            new[target] = self.targets[target](outputs[target], tokens[target])
        return new, tokens
