"""A gate with a rate for every channel."""

from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ChannelGate']


@MODELS.register_module()
class ChannelGate(nn.Module):
    """G = sigmoid(W GAP(x) + b): one rate per channel, the same at every position.

    In the style of squeeze-and-excitation (https://arxiv.org/abs/1709.01507, eq. 2 and 3). Ours: one linear layer in
    place of two around a bottleneck, and x need not be what is rated.

    Args:
        in_channels: Channels of x, what the gate reads.
        out_channels: Channels of the message.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Rates in (0, 1), (N, out_channels, 1, 1), for x of (N, in_channels, H, W)."""
        return self.conv(x.mean(dim=(2, 3), keepdim=True)).sigmoid()
