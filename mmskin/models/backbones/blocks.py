"""Blocks that chains are built from, beside those of torchvision and timm."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ['ColorChannels', 'Padded', 'fully_connected_blocks']


def fully_connected_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """``fc6`` and ``fc7`` of a torchvision network, each giving a map (N, 4096, 1, 1), with dropout where it has it.

    The last layer, which names ImageNet's classes, is left out: the head stands in its place.

    Args:
        network: Has ``avgpool`` and ``classifier``, as torchvision's AlexNet and VGG have.
    """
    *layers, _ = network.get_submodule('classifier').children()
    end = next(index for index, layer in enumerate(layers) if isinstance(layer, nn.ReLU)) + 1
    as_map = nn.Unflatten(1, (-1, 1, 1))
    first = nn.Sequential(network.get_submodule('avgpool'), nn.Flatten(), *layers[:end], as_map)
    return {'fc6': first, 'fc7': nn.Sequential(nn.Flatten(), *layers[end:], as_map)}


class Padded(nn.Module):
    """Runs ``network`` on images padded to a multiple of its stride, and crops what it gives to their own size.

    Without it, a map that is halved and doubled again comes back smaller than the image, and shifted against it.

    Args:
        network: Gives maps of its input's size.
        multiple: Its largest stride.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) for images (N, 3, H, W); the padding repeats the image's edge."""
        height, width = x.shape[2:]
        padding = (0, -width % self.multiple, 0, -height % self.multiple)
        return self.network(F.pad(x, padding, mode='replicate'))[..., :height, :width]


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
