"""A gate with one rate for an image."""

from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ScalarGate']


@MODELS.register_module()
class ScalarGate(nn.Module):
    """G = sigmoid(w GAP(x) + b): one rate per image and route, the coarsest gate that still looks at the image; ours.

    Args:
        in_channels: Channels of x, what the gate reads.
        out_channels: Channels of the message, of which the gate does not depend.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Rates in (0, 1), (N, 1, 1, 1), for x of (N, in_channels, H, W)."""
        return self.conv(x.mean(dim=(2, 3), keepdim=True)).sigmoid()
