"""Cross-stitch units."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from mmskin.models.passing.mixing import MixingPassing, Stream
from mmskin.models.passing.passing import Features
from mmskin.registry import MODELS

__all__ = ['CrossStitchPassing']


class ScaledStream(Stream):
    """a (.) x: one weight per channel."""

    def __init__(self, source: int, target: int, value: float) -> None:
        super().__init__(source, target)
        self.weight = nn.Parameter(torch.full((target, 1, 1), float(value)))

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        """``source``, weighted, in the shape of ``feature``."""
        return self.weight * self.adapter(source, feature)


@MODELS.register_module()
class CrossStitchPassing(MixingPassing):
    """y_i = a_ii (.) f_i + sum_j a_ij (.) f_j: every branch becomes a learned mix of all, channel by channel.

    Cross-stitch units, eq. 1 of https://arxiv.org/abs/1604.03539, which are linear, unbounded weights of maps of one
    depth and therefore have no gates. The paper writes it for two tasks; the sum over routes is the usual extension.
    Ours: the start from the identity, and a 1x1 convolution and a resize where maps differ.

    The paper trains its units at a much higher rate than the network, whose rate hardly moves them; the
    reimplementation that came with MTI-Net (github.com/SimonVandenhende/Multi-Task-Learning-PyTorch) takes 100 times
    the network's, with SGD. Here that is the optimiser's:
    ``optim_wrapper.paramwise_cfg=dict(custom_keys={'passing.': dict(lr_mult=100)})``.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: Start from a_ii = 1 and a_ij = 0. Without it a_ii = ``own``, and the sources share the rest.
        own: Initial weight of a task's own map without ``identity_init``; the paper tries 0.1 to 0.9.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
        own: float = 0.9,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        own = 1.0 if identity_init else own
        shared = {target: (1 - own) / count for target, count in self.num_sources().items()}
        for target in shared:
            self.targets[target] = ScaledStream(out_channels[target], out_channels[target], own)
        for name, (source, target) in self.ends.items():
            self.routes[name] = ScaledStream(out_channels[source], out_channels[target], shared[target])

    def mix(self, target: str, feature: Tensor, sources: Features) -> Tensor:
        """The weighted sum of ``feature`` and the sources' maps."""
        brought = (self.from_source(source, target)(x, feature) for source, x in sources.items())
        return sum(brought, start=self.targets[target](feature, feature))
