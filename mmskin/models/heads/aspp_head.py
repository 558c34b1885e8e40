"""The segmentation head of DeepLab v2."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ASPPHead']


@MODELS.register_module()
class ASPPHead(nn.Module):
    """Parallel dilated 3x3 convolutions, summed: atrous spatial pyramid pooling as in DeepLab v2.

    https://arxiv.org/abs/1606.00915, section 3.2. Each branch gives the logits directly, as in the ResNet-101 variant
    that the paper builds on; weights start from a normal distribution with deviation 0.01.

    Args:
        in_channels: Channels of the last feature map.
        out_channels: 1 for one lesion probability per pixel.
        rates: Dilation rates; they are in cells of the feature map, so a coarser map wants smaller ones.
    """

    def __init__(self, in_channels: int, out_channels: int = 1, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(in_channels, out_channels, rate) for rate in rates)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, out_channels, H, W) from the last map (N, C, H, W) of ``feats``."""
        return torch.stack([branch(feats[-1]) for branch in self.branches]).sum(0)


def _branch(in_channels: int, out_channels: int, rate: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate)
    nn.init.normal_(conv.weight, std=0.01)
    conv.bias.data.zero_()  # type: ignore[union-attr]
    return conv
