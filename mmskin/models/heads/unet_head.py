"""A decoder with skip connections."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['UNetHead']


@MODELS.register_module()
class UNetHead(nn.Module):
    """U-Net's expanding path (https://arxiv.org/abs/1505.04597) over the maps of any encoder.

    mmseg has it only as one with its own encoder. A map is enlarged to the next finer one's size, whatever that is,
    and joined with it; two convolutions follow.

    Args:
        in_channels: Channels of the encoder's maps, from fine to coarse; a number for one map.
        out_channels: 1 for one lesion probability per pixel.
        channels: Channels of every level; U-Net halves them with every level, from 512 to 64.
    """

    def __init__(self, in_channels: int | Sequence[int], out_channels: int = 1, channels: int = 64) -> None:
        super().__init__()
        *skips, deepest = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        entering = [deepest] + [channels] * len(skips)
        self.levels = nn.ModuleList(
            _double_conv(below + skip, channels) for below, skip in zip(entering, reversed(skips), strict=False)
        )
        self.out = nn.Conv2d(entering[-1], out_channels, 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, out_channels, h, w) at the finest of the maps used, from the last ones of ``feats``."""
        *skips, x = feats[-len(self.levels) - 1 :]
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = F.interpolate(x, skip.shape[2:], mode='bilinear', align_corners=False)
            x = level(torch.cat([skip, x], dim=1))
        return self.out(x)


def _double_conv(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            layer
            for width in (in_channels, channels)
            for layer in (nn.Conv2d(width, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
        )
    )
