"""VGG as a chain of blocks."""

import torchvision
from torch import nn
from torchvision.models import vgg

from mmskin.errors import Mistake
from mmskin.models.backbones.blocks import fully_connected_blocks
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.pretrained import read_pretrained
from mmskin.registry import MODELS

__all__ = ['VGGChain']

_LETTERS = {11: 'A', 13: 'B', 16: 'D', 19: 'E'}


@MODELS.register_module()
class VGGChain(BlockChain):
    """The convolutions of torchvision's VGG (https://arxiv.org/abs/1409.1556): ``conv1_1`` ... ``conv5_3``.

    A block is a convolution with its ReLU, and with the pooling that follows if one does.

    Args:
        depth: 11, 13, 16 or 19.
        batch_norm: Whether a batch norm follows each convolution.
        weights: ``torchvision://vgg16`` or ``torchvision://vgg16_bn`` (a download), an address or a file of
            torchvision's format, or None.
        fully_connected: Whether ``fc6`` and ``fc7`` (4096 channels) follow, for the whole network of table 2.
        last_pool: Whether ``conv5_3`` ends with its pooling; without it the map is twice as fine.

    Raises:
        Mistake: if there is no VGG of that depth.
        MissingFile: if the weights are not to be had.
    """

    def __init__(
        self,
        depth: int = 16,
        batch_norm: bool = False,
        weights: str | None = None,
        fully_connected: bool = False,
        last_pool: bool = True,
    ) -> None:
        if depth not in _LETTERS:
            raise Mistake(f'There is no VGG of depth {depth}; depths are {", ".join(map(str, _LETTERS))}.')
        network = _network(depth, batch_norm, fully_connected)
        if weights is not None:
            state = read_pretrained(weights)
            network.load_state_dict({key: state[key] for key in network.state_dict()})
        layers = network.get_submodule('features')
        blocks = _blocks(layers if last_pool else layers[:-1])  # type: ignore[index, arg-type]
        super().__init__({**blocks, **(fully_connected_blocks(network) if fully_connected else {})})


def _network(depth: int, batch_norm: bool, fully_connected: bool) -> nn.Module:
    """The network of torchvision, without the 120 million weights of its classifier where they are not wanted."""
    if fully_connected:
        return torchvision.models.get_model(f'vgg{depth}{"_bn" if batch_norm else ""}')
    layers = vgg.make_layers(vgg.cfgs[_LETTERS[depth]], batch_norm)
    layers.apply(_initialise)
    return nn.ModuleDict({'features': layers})


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _blocks(layers: nn.Sequential) -> dict[str, nn.Module]:
    names = {nn.Conv2d: 'conv', nn.BatchNorm2d: 'bn', nn.ReLU: 'relu', nn.MaxPool2d: 'pool'}
    blocks: dict[str, nn.Module] = {}
    stage, index = 1, 0
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            index += 1
            block = blocks[f'conv{stage}_{index}'] = nn.Sequential()
        block.add_module(names[type(layer)], layer)
        if isinstance(layer, nn.MaxPool2d):
            stage, index = stage + 1, 0
    return blocks
