"""A gate with a rate for every channel and position, eq. 8 and 9."""

from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ElementwiseGate']


@MODELS.register_module()
class ElementwiseGate(nn.Module):
    """G = sigmoid(w * x + b): one rate per channel and position.

    Eq. 8 and 9 of https://doi.org/10.1109/ISBI.2018.8363769.

    Args:
        in_channels: Channels of x, what the gate reads.
        out_channels: Channels of the message.
        kernel_size: The paper does not give it; 1 keeps the network small.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding='same')

    def forward(self, x: Tensor) -> Tensor:
        """Rates in (0, 1), (N, out_channels, H, W), for x of (N, in_channels, H, W)."""
        return self.conv(x).sigmoid()
