"""AlexNet as a chain of blocks."""

import torchvision
from torch import nn

from mmskin.models.backbones.blocks import fully_connected_blocks
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.pretrained import read_pretrained
from mmskin.registry import MODELS

__all__ = ['AlexNetChain']


@MODELS.register_module()
class AlexNetChain(BlockChain):
    """torchvision's AlexNet (https://arxiv.org/abs/1404.5997): ``conv1`` ... ``conv5``, ``fc6``, ``fc7``.

    Args:
        weights: ``torchvision://alexnet`` (a download), an address or a file of torchvision's format, or None.

    Raises:
        MissingFile: if the weights are not to be had.
    """

    def __init__(self, weights: str | None = None) -> None:
        network = torchvision.models.get_model('alexnet')
        if weights is not None:
            network.load_state_dict(read_pretrained(weights))
        super().__init__({**_convolutions(network.features), **fully_connected_blocks(network)})


def _convolutions(layers: nn.Sequential) -> dict[str, nn.Module]:
    blocks: dict[str, nn.Module] = {}
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            block = blocks[f'conv{len(blocks) + 1}'] = nn.Sequential()
        block.append(layer)
    return blocks
