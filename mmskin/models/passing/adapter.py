"""Fitting one branch's map to another's width and size."""

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['Adapter', 'resize']


def resize(feature: Tensor, like: Tensor) -> Tensor:
    """``feature`` (N, C, h, w) with the height and width of ``like``, bilinear; itself where they agree already."""
    if feature.shape[2:] == like.shape[2:]:
        return feature
    return F.interpolate(feature, like.shape[2:], mode='bilinear', align_corners=False)


class Adapter(nn.Module):
    """Brings a source's map to the target's channels, by a 1x1 convolution if they differ, and to its size.

    Args:
        in_channels: Of the source's map.
        out_channels: Of the target's.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        same = in_channels == out_channels
        self.conv = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, source: Tensor, feature: Tensor) -> Tensor:
        """``source`` (N, in_channels, h, w) as (N, out_channels, H, W), the shape of ``feature``."""
        return resize(self.conv(source), feature)
