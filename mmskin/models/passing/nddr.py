"""Neural discriminative dimensionality reduction."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mmskin.models.passing.adapter import resize
from mmskin.models.passing.batch_norm import BatchNorm
from mmskin.models.passing.mixing import MixingPassing
from mmskin.models.passing.passing import Features
from mmskin.models.passing.sum_op import SumOp
from mmskin.registry import MODELS

__all__ = ['NDDRPassing']


def diagonal(in_channels: int, out_channels: int, value: float) -> nn.Conv2d:
    """A 1x1 convolution that starts as ``value`` times the identity; batch norm follows, so it has no bias."""
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    nn.init.dirac_(conv.weight)
    conv.weight.data *= value
    return conv


class NDDRTarget(nn.Module):
    """The target's own part of W_i, and what follows the sum."""

    def __init__(self, channels: int, alpha: float, identity_init: bool) -> None:
        super().__init__()
        self.conv = diagonal(channels, channels, alpha)
        self.norm = BatchNorm(channels)
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, brought: Tensor | int) -> Tensor:
        """``feature`` fused with the sources' parts of the sum."""
        fused = self.norm(self.conv(feature) + brought).relu()
        return self.op(feature, fused - feature)


@MODELS.register_module()
class NDDRPassing(MixingPassing):
    """y_i = ReLU(BN(W_i [f_1; ...; f_T])): all tasks' maps are concatenated and reduced to one's width.

    The layer of NDDR-CNN, https://arxiv.org/abs/1801.08297: W_i is a 1x1 convolution that starts with alpha on the
    diagonal of a task's own part and beta on that of the others'. Weight decay belongs to it, and the authors train it
    at 100 times the network's rate (https://github.com/ethanygao/NDDR-CNN): both are the optimiser's. It is held as a
    sum over routes, W_i [f_1; ...; f_T] = sum_j W_ij f_j, which is the same and lets routes be left out. Ours: beta is
    shared by the sources where they are more than one, and the start from the identity, f_i + s (y_i - f_i) with a
    scale s per channel that starts at 0 as in ``SumOp``, as ReLU and batch norm have no natural one.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        identity_init: Start from f_i alone. Without it there is no s, and y_i stands alone.
        alpha: Initial weight of a task's own map; 0.9 and 0.1 are the values of the authors' code.
        beta: Initial weight of the others', together.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        identity_init: bool = True,
        alpha: float = 0.9,
        beta: float = 0.1,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        count = self.num_sources()
        for target in count:
            self.targets[target] = NDDRTarget(out_channels[target], alpha, identity_init)
        for name, (source, target) in self.ends.items():
            self.routes[name] = diagonal(out_channels[source], out_channels[target], beta / count[target])

    def mix(self, target: str, feature: Tensor, sources: Features) -> Tensor:
        """``feature`` fused with the sources' maps."""
        brought = sum(resize(self.from_source(source, target)(x), feature) for source, x in sources.items())
        return self.targets[target](feature, brought)
