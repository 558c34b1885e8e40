"""GoogLeNet as a chain of blocks."""

import torchvision
from torch import nn

from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.pretrained import read_pretrained
from mmskin.registry import MODELS

__all__ = ['GoogLeNetChain']

INCEPTIONS = ('3a', '3b', '4a', '4b', '4c', '4d', '4e', '5a', '5b')
LAYERS = ('conv1', 'conv2', 'conv3', *(f'inception{name}' for name in INCEPTIONS))
POOLED = {'conv2': 'maxpool1', 'inception3a': 'maxpool2', 'inception4a': 'maxpool3', 'inception5a': 'maxpool4'}


@MODELS.register_module()
class GoogLeNetChain(BlockChain):
    """torchvision's GoogLeNet (https://arxiv.org/abs/1409.4842): ``conv1`` ... ``conv3``, ``inception3a`` ... ``5b``.

    A pooling belongs to the block after it, so that ``conv1``, ``conv3``, ``inception3b``, ``inception4e`` and
    ``inception5b`` end at strides 2 to 32. The auxiliary classifiers are left out. Images are normalised to -1 ... 1
    (mean and deviation 127.5), as its weights want.

    Args:
        weights: ``torchvision://googlenet`` (a download), an address or a file of torchvision's format, or None.

    Raises:
        MissingFile: if the weights are not to be had.
    """

    def __init__(self, weights: str | None = None) -> None:
        network = torchvision.models.GoogLeNet(aux_logits=False, init_weights=True)
        if weights is not None:
            state = read_pretrained(weights)
            network.load_state_dict({key: state[key] for key in network.state_dict()})
        super().__init__({name: _block(network, name) for name in LAYERS})


def _block(network: nn.Module, name: str) -> nn.Module:
    layer = network.get_submodule(name)
    return nn.Sequential(network.get_submodule(POOLED[name]), layer) if name in POOLED else layer
