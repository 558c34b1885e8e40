"""ResNet as a chain of blocks."""

import torchvision
from torch import nn

from mmskin.errors import Mistake
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.pretrained import read_pretrained
from mmskin.registry import MODELS

__all__ = ['ResNetChain']

DEPTHS = (18, 34, 50, 101, 152)


@MODELS.register_module()
class ResNetChain(BlockChain):
    """torchvision's ResNet (https://arxiv.org/abs/1512.03385): ``stem``, then ``layer1.0`` ... ``layer4.2``.

    Args:
        depth: 18, 34, 50, 101 or 152.
        weights: ``torchvision://resnet101`` (a download), an address or a file of torchvision's format, or None.

    Raises:
        Mistake: if torchvision has no ResNet of that depth.
        MissingFile: if the weights are not to be had.
    """

    def __init__(self, depth: int = 101, weights: str | None = None) -> None:
        if depth not in DEPTHS:
            raise Mistake(f'There is no ResNet of depth {depth}; depths are {", ".join(map(str, DEPTHS))}.')
        network = torchvision.models.get_model(f'resnet{depth}')
        if weights is not None:
            network.load_state_dict(read_pretrained(weights))
        super().__init__(_blocks(network))


def _blocks(network: torchvision.models.ResNet) -> dict[str, nn.Module]:
    stem = nn.Sequential()
    for name in ('conv1', 'bn1', 'relu', 'maxpool'):
        stem.add_module(name, network.get_submodule(name))
    blocks: dict[str, nn.Module] = {'stem': stem}
    for stage in ('layer1', 'layer2', 'layer3', 'layer4'):
        for index, block in network.get_submodule(stage).named_children():
            blocks[f'{stage}.{index}'] = block
    return blocks
