"""Messages: what one branch tells another, eq. 6 and 7."""

from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ConvMessage']


@MODELS.register_module()
class ConvMessage(nn.Module):
    """m = ReLU(w * x + b).

    Eq. 6 and 7 of https://doi.org/10.1109/ISBI.2018.8363769.

    Args:
        in_channels: Channels of x, the source branch's input to the block.
        out_channels: Channels of the block's output in the target branch.
        kernel_size: The paper does not give it; 1 keeps the network small.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding='same')

    def forward(self, x: Tensor) -> Tensor:
        """The message (N, out_channels, H, W) for x of (N, in_channels, H, W)."""
        return self.conv(x).relu()
