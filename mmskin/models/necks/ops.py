"""The ``op`` of eq. 4 and 5: how a gated message joins the target branch.

With ``identity_init`` an op gives back the target's own feature at first, so that joining two trained branches changes
neither. For a sum and a product that takes a scale per channel which starts at 0 and is ours: a zero message
cannot learn, since ReLU has no gradient at 0. Without ``identity_init`` there is no such scale, and eq. 4 stands as
it is printed.
"""

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ConcatOp', 'ProductOp', 'SumOp']


def _zero_scale(channels: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(channels, 1, 1))


@MODELS.register_module()
class SumOp(nn.Module):
    """f + s (G m): the op the paper uses; s starts at 0 with ``identity_init`` and is absent without."""

    def __init__(self, channels: int, identity_init: bool = True) -> None:
        super().__init__()
        self.scale = _zero_scale(channels) if identity_init else None

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return feature + (message if self.scale is None else self.scale * message)


@MODELS.register_module()
class ProductOp(nn.Module):
    """f (1 + s (G m - 1)), which is the product f (G m) at s = 1 and without ``identity_init``."""

    def __init__(self, channels: int, identity_init: bool = True) -> None:
        super().__init__()
        self.scale = _zero_scale(channels) if identity_init else None

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return feature * (message if self.scale is None else 1 + self.scale * (message - 1))


@MODELS.register_module()
class ConcatOp(nn.Module):
    """W [f ; G m] with a 1x1 convolution W, which brings the channels back to C and is ours.

    With ``identity_init``, W starts as [I ; 0].
    """

    def __init__(self, channels: int, identity_init: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1)
        if identity_init:
            nn.init.dirac_(self.conv.weight)
            self.conv.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return self.conv(torch.cat([feature, message], dim=1))
