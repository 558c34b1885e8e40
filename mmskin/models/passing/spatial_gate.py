"""A gate with a rate for every position."""

from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['SpatialGate']


@MODELS.register_module()
class SpatialGate(nn.Module):
    """G = sigmoid(w * x + b): one rate per position, the same for every channel.

    One map, as in attention gates (https://arxiv.org/abs/1804.03999, eq. 1 and 2), whose two layers are one here.

    Args:
        in_channels: Channels of x, what the gate reads.
        out_channels: Channels of the message, of which the gate does not depend.
        kernel_size: A larger one lets the surroundings of a position decide, too.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 1, kernel_size, padding='same')

    def forward(self, x: Tensor) -> Tensor:
        """Rates in (0, 1), (N, 1, H, W), for x of (N, in_channels, H, W)."""
        return self.conv(x).sigmoid()
