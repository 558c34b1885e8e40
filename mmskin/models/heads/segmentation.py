"""Segmentation heads: logits of pixels from a branch's maps."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['ASPPHead', 'UNetHead']


@MODELS.register_module()
class ASPPHead(nn.Module):
    """Parallel dilated 3x3 convolutions, summed: atrous spatial pyramid pooling as in DeepLab v2.

    https://arxiv.org/abs/1606.00915, section 3.2. Each branch gives the logits directly, as in the ResNet-101 variant
    that the paper builds on; weights start from a normal distribution with deviation 0.01.

    Args:
        in_channels: Channels of the last feature map.
        out_channels: Logits of a pixel: 1 for one outline, or one for each class or outline.
        rates: Dilation rates; they are in cells of the feature map, so a coarser map wants smaller ones.
    """

    def __init__(self, in_channels: int, out_channels: int = 1, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.branches = nn.ModuleList()
        for rate in rates:
            branch = nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate)
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]
            self.branches.append(branch)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, out_channels, H, W) from the last map (N, C, H, W) of ``feats``."""
        return torch.stack([branch(feats[-1]) for branch in self.branches]).sum(0)


@MODELS.register_module()
class UNetHead(nn.Module):
    """U-Net's expanding path (https://arxiv.org/abs/1505.04597) over the maps of any encoder.

    mmseg has it only as one with its own encoder. A map is enlarged to the next finer one's size and
    joined with it; two convolutions follow.

    Args:
        in_channels: Channels of the encoder's maps, from fine to coarse; a number for one map.
        out_channels: Logits of a pixel: 1 for one outline, or one for each class or outline.
        channels: Channels of every level; U-Net halves them with every level, from 512 to 64.
    """

    def __init__(self, in_channels: int | Sequence[int], out_channels: int = 1, channels: int = 64) -> None:
        super().__init__()
        *skips, deepest = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        entering = [deepest] + [channels] * len(skips)
        self.levels = nn.ModuleList()
        for below, skip in zip(entering, reversed(skips), strict=False):
            layers: list[nn.Module] = []
            for width in (below + skip, channels):
                convolution = nn.Conv2d(width, channels, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
            self.levels.append(nn.Sequential(*layers))
        self.out = nn.Conv2d(entering[-1], out_channels, 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, out_channels, h, w) at the finest of the maps used, from the last ones of ``feats``."""
        *skips, x = feats[-len(self.levels) - 1 :]
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = F.interpolate(x, skip.shape[2:], mode='bilinear', align_corners=False)
            x = level(torch.cat([skip, x], dim=1))
        return self.out(x)
