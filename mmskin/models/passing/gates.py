"""Messages that one branch sends another, gates that let part of them through, and ops that join them to a feature.

Gates have the arguments of ``ElementwiseGate``; where one rate serves all channels, ``out_channels`` changes nothing.
"""

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS


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


@MODELS.register_module()
class ElementwiseGate(nn.Module):
    """G = sigmoid(w * x + b): one rate per channel and position.

    Eq. 8 and 9 of https://doi.org/10.1109/ISBI.2018.8363769.

    Args:
        in_channels: Channels of x, which the gate reads.
        out_channels: Channels of the message.
        kernel_size: The paper does not give it; 1 keeps the network small.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding='same')

    def forward(self, x: Tensor) -> Tensor:
        """Rates in (0, 1), (N, out_channels, H, W), for x of (N, in_channels, H, W)."""
        return self.conv(x).sigmoid()


@MODELS.register_module()
class ChannelGate(nn.Module):
    """G = sigmoid(W GAP(x) + b): one rate per channel, the same at every position.

    In the style of squeeze-and-excitation (https://arxiv.org/abs/1709.01507, eq. 2 and 3). Ours: one linear layer
    instead of two around a bottleneck, and x may be another map than the one that is rated.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Rates in (0, 1), (N, out_channels, 1, 1), for x of (N, in_channels, H, W)."""
        return self.conv(x.mean(dim=(2, 3), keepdim=True)).sigmoid()


@MODELS.register_module()
class SpatialGate(ElementwiseGate):
    """G = sigmoid(w * x + b): one rate per position, the same for every channel.

    One map, as in attention gates (https://arxiv.org/abs/1804.03999, eq. 1 and 2), whose two layers are one here.
    With a larger ``kernel_size`` a position's surroundings count too.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 1) -> None:
        super().__init__(in_channels, 1, kernel_size)  # rates (N, 1, H, W)


@MODELS.register_module()
class ScalarGate(ChannelGate):
    """G = sigmoid(w GAP(x) + b): one rate per image and route, the coarsest gate that still sees the image; ours."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, 1)  # rates (N, 1, 1, 1)


@MODELS.register_module()
class SumOp(nn.Module):
    """f + s (G m): the ``op`` that the paper uses.

    Eq. 4 and 5 of https://doi.org/10.1109/ISBI.2018.8363769.

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
class ProductOp(SumOp):
    """f (1 + s (G m - 1)), which at s = 1 is the product f (G m) that the paper allows as ``op``.

    Eq. 4 and 5 of https://doi.org/10.1109/ISBI.2018.8363769.

    The arguments are those of ``SumOp``; without ``identity_init`` it is the product.
    """

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return feature * (message if self.scale is None else 1 + self.scale * (message - 1))


@MODELS.register_module()
class ConcatOp(nn.Module):
    """W [f ; G m]: the concatenation that the paper allows as ``op``; W, 1x1 to C channels, is ours.

    Eq. 4 and 5 of https://doi.org/10.1109/ISBI.2018.8363769.

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
