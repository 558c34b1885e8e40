"""The attention-guided distillation of PAD-Net."""

from typing import Any

from torch import Tensor, nn

from mmskin.models.passing.base import OPENING, Maps, RoutedPassing, resize
from mmskin.models.passing.ops import SumOp
from mmskin.registry import MODELS


class PADNetRoute(nn.Module):
    """s(Wg * f_j) (.) (Wm * f_j), added to the target's output."""

    def __init__(self, source: int, target: int, kernel_size: int, identity_init: bool) -> None:
        super().__init__()
        self.gate, self.message = (nn.Conv2d(source, target, kernel_size, padding='same', bias=False) for _ in range(2))
        self.op = SumOp(target, identity_init)

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """Attention in (0, 1), (N, C, h, w), at the source's resolution."""
        return self.gate(self.read(source)).sigmoid()

    def read(self, source: Maps) -> Tensor:
        """What gate and message are computed from, (N, C, h, w)."""
        return source.f

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        return self.op(feature, resize(self.rates(source, target) * self.message(self.read(source)), feature))


@MODELS.register_module()
class PADNetPassing(RoutedPassing):
    """f_i <- f_i + sum_j s(Wg_ji * f_j) (.) (Wm_ji * f_j): module C of PAD-Net, a gated message without a ReLU.

    https://arxiv.org/abs/1805.04409, section 3.3; 3x3 convolutions without bias and a gate that reads the source are
    as in the reimplementation that came with MTI-Net (github.com/SimonVandenhende/Multi-Task-Learning-PyTorch,
    ``SABlock``). There f are maps from which auxiliary tasks are predicted under supervision; here they are the
    branches' own. Ours: the resize between maps of different size, and the start from the identity by ``SumOp``.

    Args:
        kernel_size: Of both convolutions.
        options: See ``FeaturePassing``.
    """

    quantity = OPENING

    def __init__(self, *args: Any, kernel_size: int = 3, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        for name, (source, target) in self.ends.items():
            self.routes[name] = PADNetRoute(out[source], out[target], kernel_size, self.identity_init)
