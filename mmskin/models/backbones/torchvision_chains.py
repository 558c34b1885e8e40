"""AlexNet, GoogLeNet and VGG, as torchvision has them, as chains of blocks."""

import torchvision
from torch import nn
from torchvision.models import vgg

from mmskin.errors import Mistake
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.pretrained import fit_weights, read_pretrained
from mmskin.registry import MODELS

VGGS = {11: 'A', 13: 'B', 16: 'D', 19: 'E'}
INCEPTIONS = ('3a', '3b', '4a', '4b', '4c', '4d', '4e', '5a', '5b')
LAST = 'classifier.6.'  # of VGG and AlexNet: the layer that names ImageNet's classes
POOLED = {'conv2': 'maxpool1', 'inception3a': 'maxpool2', 'inception4a': 'maxpool3', 'inception5a': 'maxpool4'}


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
        MissingFile: if the weights are unavailable.
    """

    def __init__(
        self,
        depth: int = 16,
        batch_norm: bool = False,
        weights: str | None = None,
        fully_connected: bool = False,
        last_pool: bool = True,
    ) -> None:
        if depth not in VGGS:
            raise Mistake(f'There is no VGG of depth {depth}; depths are {", ".join(map(str, VGGS))}')
        if fully_connected:
            network = torchvision.models.get_model(f'vgg{depth}{"_bn" if batch_norm else ""}')
        else:  # without the 120 million weights of the classifier
            network = nn.ModuleDict({'features': vgg.make_layers(vgg.cfgs[VGGS[depth]], batch_norm)})
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        if weights is not None:
            unused = [LAST if fully_connected else 'classifier.']
            fit_weights(network, read_pretrained(weights), weights, f'VGG-{depth}', unused)

        layers = [*network.get_submodule('features').children()]
        names = {nn.Conv2d: 'conv', nn.BatchNorm2d: 'bn', nn.ReLU: 'relu', nn.MaxPool2d: 'pool'}
        blocks: dict[str, nn.Module] = {}
        stage, index = 1, 0
        for layer in layers if last_pool else layers[:-1]:
            if isinstance(layer, nn.Conv2d):
                index += 1
                block = blocks[f'conv{stage}_{index}'] = nn.Sequential()
            block.add_module(names[type(layer)], layer)
            if isinstance(layer, nn.MaxPool2d):
                stage, index = stage + 1, 0
        if fully_connected:
            blocks |= fully_connected_blocks(network)
        super().__init__(blocks)


@MODELS.register_module()
class AlexNetChain(BlockChain):
    """torchvision's AlexNet (https://arxiv.org/abs/1404.5997): ``conv1`` ... ``conv5``, ``fc6``, ``fc7``.

    Args:
        weights: ``torchvision://alexnet`` (a download), an address or a file of torchvision's format, or None.

    Raises:
        MissingFile: if the weights are unavailable.
    """

    def __init__(self, weights: str | None = None) -> None:
        network = torchvision.models.get_model('alexnet')
        if weights is not None:
            fit_weights(network, read_pretrained(weights), weights, 'AlexNet', [LAST])
        blocks: dict[str, nn.Module] = {}
        for layer in network.features:
            if isinstance(layer, nn.Conv2d):
                block = blocks[f'conv{len(blocks) + 1}'] = nn.Sequential()
            block.append(layer)
        super().__init__({**blocks, **fully_connected_blocks(network)})


@MODELS.register_module()
class GoogLeNetChain(BlockChain):
    """torchvision's GoogLeNet (https://arxiv.org/abs/1409.4842): ``conv1`` ... ``conv3``, ``inception3a`` ... ``5b``.

    A pooling belongs to the block after it, so that ``conv1``, ``conv3``, ``inception3b``, ``inception4e`` and
    ``inception5b`` end at strides 2 to 32. The auxiliary classifiers are left out. Images are normalised to -1 ... 1
    (mean and deviation 127.5), as its weights want.

    Args:
        weights: ``torchvision://googlenet`` (a download), an address or a file of torchvision's format, or None.

    Raises:
        MissingFile: if the weights are unavailable.
    """

    def __init__(self, weights: str | None = None) -> None:
        network = torchvision.models.GoogLeNet(aux_logits=False, init_weights=True)
        if weights is not None:
            fit_weights(network, read_pretrained(weights), weights, 'GoogLeNet', ['fc.', 'aux1.', 'aux2.'])
        blocks: dict[str, nn.Module] = {}
        for name in ('conv1', 'conv2', 'conv3', *(f'inception{name}' for name in INCEPTIONS)):
            block = network.get_submodule(name)
            blocks[name] = nn.Sequential(network.get_submodule(POOLED[name]), block) if name in POOLED else block
        super().__init__(blocks)


def fully_connected_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """``fc6`` and ``fc7`` of AlexNet or VGG, each giving a map (N, 4096, 1, 1), with dropout where it has it.

    The last layer, which names ImageNet's classes, is left out: the head replaces it.
    """
    *layers, _ = network.get_submodule('classifier').children()
    end = next(index for index, layer in enumerate(layers) if isinstance(layer, nn.ReLU)) + 1
    as_map = nn.Unflatten(1, (-1, 1, 1))
    first = nn.Sequential(network.get_submodule('avgpool'), nn.Flatten(), *layers[:end], as_map)
    return {'fc6': first, 'fc7': nn.Sequential(nn.Flatten(), *layers[end:], as_map)}
