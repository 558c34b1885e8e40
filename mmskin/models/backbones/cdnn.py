"""The convolutional-deconvolutional network that won ISIC-2017's segmentation."""

from collections.abc import Iterator, Sequence

from torch import nn

from mmskin.models.backbones.blocks import ColorChannels, Padded
from mmskin.models.backbones.chain import BlockChain
from mmskin.registry import MODELS

__all__ = ['CDNNChain']

# Side of the kernel and output channels of each layer; a stage ends with pooling or upsampling.
ENCODER = ([(3, 16), (3, 32)], [(3, 64), (3, 64)], [(3, 128), (4, 128)], [(3, 256), (3, 256)], [(3, 512)])
DECODER = ([(3, 256)], [(3, 256), (3, 128)], [(4, 128), (3, 128)], [(3, 64), (3, 32)], [(3, 16)])


@MODELS.register_module()
class CDNNChain(BlockChain):
    """Yuan and Lo's network as one block, ``cdnn``, whose map has the image's own size and 16 channels.

    https://arxiv.org/abs/1709.09780 and https://arxiv.org/abs/1703.05165: RGB, HSV and lightness in, 3x3 kernels (4x4
    in conv-3-2 and decv-3-1), batch norm and ReLU after each, dropout before conv-4-1 and decv-5-1. The channels of
    each layer are those of a public re-implementation, since the table itself was not to be had; with the output
    layer there are 5,039,457 parameters where 5,042,589 are reported, so some detail differs. A deconvolution of
    stride 1 is a convolution with its kernel turned, and is written as one. Padding for images of any size is ours.

    Args:
        dropout: Share of a map's values dropped while training.
    """

    def __init__(self, dropout: float = 0.5) -> None:
        layers = [ColorChannels(), *_encoder(dropout), *_decoder(dropout)]
        super().__init__({'cdnn': Padded(nn.Sequential(*layers), multiple=16)})


def _encoder(dropout: float) -> Iterator[nn.Module]:
    in_channels = 7
    for number, stage in enumerate(ENCODER, start=1):
        if number > 1:
            yield nn.MaxPool2d(2)
        if number == 4:
            yield nn.Dropout(dropout)
        yield from _stage(in_channels, stage)
        in_channels = stage[-1][1]


def _decoder(dropout: float) -> Iterator[nn.Module]:
    in_channels = ENCODER[-1][-1][1]
    for number, stage in enumerate(DECODER, start=1):
        if number > 1:
            yield nn.Upsample(scale_factor=2)
        if number == 5:
            yield nn.Dropout(dropout)
        yield from _stage(in_channels, stage)
        in_channels = stage[-1][1]


def _stage(in_channels: int, stage: Sequence[tuple[int, int]]) -> Iterator[nn.Module]:
    for kernel_size, channels in stage:
        yield nn.Conv2d(in_channels, channels, kernel_size, padding='same')
        yield nn.BatchNorm2d(channels)
        yield nn.ReLU(inplace=True)
        in_channels = channels
