"""U-Net as a chain of one block."""

from mmengine.model import kaiming_init
from torch import Tensor, nn

from mmskin.models.backbones.blocks import Padded
from mmskin.models.backbones.chain import BlockChain
from mmskin.registry import MODELS

__all__ = ['UNetChain']


@MODELS.register_module()
class UNetChain(BlockChain):
    """mmseg's U-Net (https://arxiv.org/abs/1505.04597) as one block, ``unet``, whose map has the image's own size.

    It differs from the paper's in what mmseg's differs: padded convolutions with batch norm, bilinear upsampling.

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
