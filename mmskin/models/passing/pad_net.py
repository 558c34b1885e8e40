"""The attention-guided distillation of PAD-Net."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mmskin.models.passing.adapter import resize
from mmskin.models.passing.passing import OPENING
from mmskin.models.passing.routed_passing import RoutedPassing
from mmskin.models.passing.sum_op import SumOp
from mmskin.registry import MODELS

__all__ = ['PADNetPassing']


class PADNetRoute(nn.Module):
    """s(Wg * f_j) (.) (Wm * f_j), added to the target's output."""

    def __init__(self, source: int, target: int, kernel_size: int, identity_init: bool) -> None:
        super().__init__()
        self.gate, self.message = (nn.Conv2d(source, target, kernel_size, padding='same', bias=False) for _ in range(2))
        self.op = SumOp(target, identity_init)

    def rates(self, source: Tensor, target: Tensor) -> Tensor:
        """Attention in (0, 1), (N, C, h, w), at the source's resolution."""
        return self.gate(source).sigmoid()

    def forward(self, source: Tensor, target: Tensor, feature: Tensor) -> Tensor:
        """``feature`` with the message added."""
        return self.op(feature, resize(self.rates(source, target) * self.message(source), feature))


@MODELS.register_module()
class PADNetPassing(RoutedPassing):
    """f_i <- f_i + sum_j s(Wg_ji * f_j) (.) (Wm_ji * f_j): module C of PAD-Net, a gated message without a ReLU.

    https://arxiv.org/abs/1805.04409, section 3.3; 3x3 convolutions without bias and a gate that reads the source are
    as in the reimplementation that came with MTI-Net (github.com/SimonVandenhende/Multi-Task-Learning-PyTorch,
    ``SABlock``). There f are maps from which auxiliary tasks are predicted under supervision; here they are the
    branches' own. The resize between maps of different size and the scale of ``identity_init`` are ours.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        kernel_size: Of both convolutions.
        identity_init: Start from f alone, by the zero scale of ``SumOp``.
    """

    quantity = OPENING

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        kernel_size: int = 3,
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        for name, (source, target) in self.ends.items():
            widths = out_channels[source], out_channels[target]
            self.routes[name] = PADNetRoute(*widths, kernel_size, identity_init)
