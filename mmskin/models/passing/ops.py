"""The ``op`` of eq. 4 and 5 of https://doi.org/10.1109/ISBI.2018.8363769, which joins a gated message to a feature."""

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS


@MODELS.register_module()
class SumOp(nn.Module):
    """f + s (G m): the ``op`` that the paper uses, eq. 4 and 5.

    Args:
        channels: Of feature and message.
        identity_init: Start from f alone, so that joining two trained branches changes neither: s is a scale per
            channel that starts at 0. It is ours; a zero message could not learn, as ReLU has no gradient at 0.
            Without it there is no s, and eq. 4 holds as printed.
    """

    def __init__(self, channels: int, identity_init: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1)) if identity_init else None

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return feature + (message if self.scale is None else self.scale * message)


@MODELS.register_module()
class ProductOp(nn.Module):
    """f (1 + s (G m - 1)), which at s = 1 is the product f (G m) that the paper allows as ``op``, eq. 4 and 5.

    The arguments are those of ``SumOp``; without ``identity_init`` it is the product.
    """

    def __init__(self, channels: int, identity_init: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1)) if identity_init else None

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return feature * (message if self.scale is None else 1 + self.scale * (message - 1))


@MODELS.register_module()
class ConcatOp(nn.Module):
    """W [f ; G m]: the concatenation that the paper allows as ``op``, eq. 4 and 5; W, 1x1 to C channels, is ours.

    Args:
        channels: Of the feature, and of the message unless ``message_channels`` differ.
        identity_init: Start from f alone: W begins as [I ; 0].
        message_channels: Of the message; None is ``channels``.
    """

    def __init__(self, channels: int, identity_init: bool = True, message_channels: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + (message_channels or channels), channels, 1)
        if identity_init:
            nn.init.dirac_(self.conv.weight)
            self.conv.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join a feature (N, C, H, W) and a message of the same size."""
        return self.conv(torch.cat([feature, message], dim=1))
