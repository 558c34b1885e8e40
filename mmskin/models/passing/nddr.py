"""Neural discriminative dimensionality reduction."""

from typing import Any

from torch import Tensor, nn

from mmskin.models.passing.base import BatchNorm, MixingPassing, Mixture, Streams, resize
from mmskin.models.passing.ops import SumOp
from mmskin.registry import MODELS


class DiagonalStream(nn.Module):
    """W_ij f_j, a 1x1 convolution that starts as ``value`` times the identity; without bias, as batch norm follows."""

    def __init__(self, source: int, target: int, value: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(source, target, 1, bias=False)
        nn.init.dirac_(self.conv.weight)
        self.conv.weight.data *= value

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        return resize(self.conv(source), feature)


class NDDRMixture(Mixture):
    """f_i + s (ReLU(BN(sum_j W_ij f_j)) - f_i)."""

    def __init__(self, stream: nn.Module, channels: int, identity_init: bool) -> None:
        super().__init__(stream)
        self.norm = BatchNorm(channels)
        self.op = SumOp(channels, identity_init)

    def forward(self, feature: Tensor, streams: Streams) -> Tensor:
        fused = self.norm(super().forward(feature, streams)).relu()
        return self.op(feature, fused - feature)


@MODELS.register_module()
class NDDRPassing(MixingPassing):
    """y_i = ReLU(BN(W_i [f_1; ...; f_T])): all tasks' maps are concatenated and reduced to one's width.

    The layer of NDDR-CNN, https://arxiv.org/abs/1801.08297: W_i is a 1x1 convolution that starts with alpha on the
    diagonal of a task's own part and beta on that of the others'. Weight decay belongs to it, and the authors train it
    at 100 times the network's rate (https://github.com/ethanygao/NDDR-CNN): both are the optimiser's. It is held as a
    sum over routes, W_i [f_1; ...; f_T] = sum_j W_ij f_j, which is the same and lets routes be left out. Ours: several
    sources share beta, and the start from the identity, f_i + s (y_i - f_i) with s as in ``SumOp``, since ReLU and
    batch norm have no natural one.

    Args:
        alpha: Initial weight of a task's own map; 0.9 and 0.1 are the values of the authors' code.
        beta: Initial weight of the others', together.
        options: See ``FeaturePassing``; without ``identity_init`` there is no s.
    """

    def __init__(self, *args: Any, alpha: float = 0.9, beta: float = 0.1, **options: Any) -> None:
        super().__init__(*args, **options)
        out, count = self.out_channels, self.num_sources()

        def stream(source: str, target: str) -> nn.Module:
            return DiagonalStream(out[source], out[target], alpha if source == target else beta / count[target])

        self.mix_by(stream, lambda target, own: NDDRMixture(own, out[target], self.identity_init))
