"""More colour spaces as a network's input."""

import torch
from torch import Tensor, nn

__all__ = ['ColorChannels']

LUMINANCE = (0.212671, 0.715160, 0.072169)  # of linear red, green and blue, for white D65


class ColorChannels(nn.Module):
    """RGB, HSV and the lightness of CIELAB, stacked: seven channels from 0 to 1.

    HSV and lightness as https://docs.opencv.org/4.x/de/d25/imgproc_color_conversions.html defines them, with the hue
    divided by 360 degrees and the lightness by 100.
    """

    def forward(self, rgb: Tensor) -> Tensor:
        """Channels (N, 7, H, W) of images (N, 3, H, W) with values from 0 to 1."""
        rgb = rgb.float().clamp(0, 1)
        return torch.cat([rgb, hsv(rgb), lightness(rgb)], dim=1)


def hsv(rgb: Tensor) -> Tensor:
    """Hue, saturation and value (N, 3, H, W); a grey pixel has hue 0, a black one saturation 0."""
    value, largest = rgb.max(1)
    spread = value - rgb.min(1).values
    red, green, blue = rgb.unbind(1)
    sixths = torch.stack([green - blue, blue - red, red - green], dim=1) / spread.clamp(min=1e-8)[:, None]
    sixth = sixths.gather(1, largest[:, None])[:, 0] + 2 * largest
    return torch.stack([sixth.remainder(6) / 6, spread / value.clamp(min=1e-8), value], dim=1)


def lightness(rgb: Tensor) -> Tensor:
    """The L of CIELAB (N, 1, H, W), divided by 100."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    luminance = (linear * linear.new_tensor(LUMINANCE).view(3, 1, 1)).sum(1, keepdim=True)  # in full precision always
    cube_root = luminance.clamp(min=1e-8) ** (1 / 3)
    return torch.where(luminance > 0.008856, 1.16 * cube_root - 0.16, 9.033 * luminance)
