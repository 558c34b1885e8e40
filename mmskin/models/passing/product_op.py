"""Joining a message by a product."""

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ProductOp']


@MODELS.register_module()
class ProductOp(nn.Module):
    """f (1 + s (G m - 1)), which at s = 1 is the product f (G m) that the paper allows as ``op``.

    Eq. 4 and 5 of https://doi.org/10.1109/ISBI.2018.8363769.

    Args:
        channels: Of feature and message.
        identity_init: Start from f alone: s is a scale per channel that starts at 0, as in ``SumOp``. Without it
            there is no s, and the product stands alone.
    """

    def __init__(self, channels: int, identity_init: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1)) if identity_init else None

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return feature * (message if self.scale is None else 1 + self.scale * (message - 1))
