"""Networks whose map has the image's own size, U-Net and CDNN, each as a chain of one block."""

import torch
import torch.nn.functional as F
from mmengine.model import kaiming_init
from torch import Tensor, nn

from mmskin.models.backbones.chain import BlockChain
from mmskin.registry import MODELS


@MODELS.register_module()
class UNetChain(BlockChain):
    """mmseg's U-Net (https://arxiv.org/abs/1505.04597) as one block, ``unet``, whose map has the image's own size.

    It differs from the paper's as mmseg's does: padded convolutions with batch norm, bilinear upsampling.

    Args:
        base_channels: Channels of its map; the lowest level has 16 times as many.
    """

    def __init__(self, base_channels: int = 64) -> None:
        network = MODELS.build({'type': 'mmseg.UNet', 'base_channels': base_channels})
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                kaiming_init(layer)  # as mmseg does, which logs each tensor of it
        super().__init__({'unet': Padded(_LastMap(network), multiple=16)})


class _LastMap(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[-1]


# Side of the kernel and output channels of each layer; a stage ends with pooling or upsampling.
ENCODER = ([(3, 16), (3, 32)], [(3, 64), (3, 64)], [(3, 128), (4, 128)], [(3, 256), (3, 256)], [(3, 512)])
DECODER = ([(3, 256)], [(3, 256), (3, 128)], [(4, 128), (3, 128)], [(3, 64), (3, 32)], [(3, 16)])


@MODELS.register_module()
class CDNNChain(BlockChain):
    """Yuan and Lo's network as one block, ``cdnn``, whose map has the image's own size and 16 channels.

    https://arxiv.org/abs/1709.09780 and https://arxiv.org/abs/1703.05165: RGB, HSV and lightness in, 3x3 kernels (4x4
    in conv-3-2 and decv-3-1), batch norm and ReLU after each, dropout before conv-4-1 and decv-5-1. The channels of
    each layer are those of a public re-implementation, since the table itself was unavailable; with the output
    layer there are 5,039,457 parameters where 5,042,589 are reported, so some detail differs. A deconvolution of
    stride 1 is a convolution with its kernel turned, and is written as one. Padding for images of any size is ours.

    Args:
        dropout: Share of a map's values dropped while training.
    """

    def __init__(self, dropout: float = 0.5) -> None:
        layers: list[nn.Module] = [ColorChannels()]
        in_channels = 7
        for number, stage in enumerate((*ENCODER, *DECODER)):
            if 0 < number < len(ENCODER):
                layers.append(nn.MaxPool2d(2))
            if number > len(ENCODER):
                layers.append(nn.Upsample(scale_factor=2))
            if number in (3, 9):  # conv-4-1 and decv-5-1
                layers.append(nn.Dropout(dropout))
            for kernel_size, channels in stage:
                convolution = nn.Conv2d(in_channels, channels, kernel_size, padding='same')
                layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
                in_channels = channels
        super().__init__({'cdnn': Padded(nn.Sequential(*layers), multiple=16)})


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
        value, largest = rgb.max(1)
        spread = value - rgb.min(1).values
        red, green, blue = rgb.unbind(1)
        sixths = torch.stack([green - blue, blue - red, red - green], dim=1) / spread.clamp(min=1e-8)[:, None]
        sixth = sixths.gather(1, largest[:, None])[:, 0] + 2 * largest
        # a grey pixel has hue 0, a black one saturation 0
        hsv = torch.stack([sixth.remainder(6) / 6, spread / value.clamp(min=1e-8), value], dim=1)
        linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
        luminance = (linear * linear.new_tensor(LUMINANCE).view(3, 1, 1)).sum(1, keepdim=True)  # always in float32
        cube_root = luminance.clamp(min=1e-8) ** (1 / 3)
        lightness = torch.where(luminance > 0.008856, 1.16 * cube_root - 0.16, 9.033 * luminance)
        return torch.cat([rgb, hsv, lightness], dim=1)
