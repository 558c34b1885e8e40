"""A passing operator in one file, next to your config: ``custom_imports = dict(imports=['linear_passing'])``.

``passing = {'layer3.1': dict(type='LinearPassing', kernel_size=3)}`` puts it in place.
"""

from typing import Any

from torch import Tensor, nn

from mmskin.models.passing.base import Maps, RoutedPassing, resize
from mmskin.models.passing.gates import SumOp
from mmskin.registry import MODELS


class LinearRoute(nn.Module):
    """f_i <- f_i + W f_j: what leaves the source's block, added to what leaves the target's."""

    def __init__(self, source: int, target: int, kernel_size: int, identity_init: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(source, target, kernel_size, padding='same')
        self.op = SumOp(target, identity_init)

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        """The target's map; of each branch, .x enters the block and .f leaves it."""
        return self.op(feature, resize(self.conv(source.f), feature))


@MODELS.register_module()
class LinearPassing(RoutedPassing):
    """A ``LinearRoute`` for each route."""

    def __init__(self, *args: Any, kernel_size: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        for name, (source, target) in self.ends.items():
            self.routes[name] = LinearRoute(out[source], out[target], kernel_size, self.identity_init)
