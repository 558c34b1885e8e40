"""Joining a message by concatenation."""

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ConcatOp']


@MODELS.register_module()
class ConcatOp(nn.Module):
    """W [f ; G m]: the concatenation that the paper allows as ``op``; W, 1x1 and back to C channels, is ours.

    Eq. 4 and 5 of https://doi.org/10.1109/ISBI.2018.8363769.

    Args:
        channels: Of feature and message.
        identity_init: Start from f alone: W begins as [I ; 0].
        message_channels: Where the message's differ.
    """

    def __init__(self, channels: int, identity_init: bool = True, message_channels: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels + (message_channels or channels), channels, 1)
        if identity_init:
            nn.init.dirac_(self.conv.weight)
            self.conv.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W), the message with channels of its own."""
        return self.conv(torch.cat([feature, message], dim=1))
