"""A chain with ResNet-18's names and strides and a thousandth of its weights."""

from torch import nn

from mmskin.models.backbones.chain import BlockChain

STRIDES = {'layer1': 1, 'layer2': 2, 'layer3': 2, 'layer4': 2}
WIDTH = 8


def narrow(*tasks):
    """Options of the configs whose network is ResNet-18; a process that reads them needs this folder in its path."""
    return {
        'model.backbone.chain.type': 'narrow.NarrowChain',
        **{f'model.tasks.{task}.head.in_channels': WIDTH for task in tasks},
    }


def slim(*tasks):
    """Options that leave such a config timm's own ResNet-18 with 1 % of its weights; any process can read it."""
    return {
        'model.backbone.chain.channels': (8, 16, 32, 48),
        **{f'model.tasks.{task}.head.in_channels': 48 for task in tasks},
    }


NARROW, SLIM = narrow('cls', 'seg'), slim('cls', 'seg')


class NarrowChain(BlockChain):
    """Takes TimmChain's place in a config, which may go on naming blocks of ResNet-18."""

    def __init__(self, model, weights=None, size=64):
        blocks = {'stem': nn.Sequential(block(3, 2), nn.MaxPool2d(3, 2, padding=1))}
        for layer, stride in STRIDES.items():
            blocks |= {f'{layer}.0': block(WIDTH, stride), f'{layer}.1': block(WIDTH, 1)}
        super().__init__(blocks, size)


def block(in_channels, stride):
    layers = nn.Sequential()
    layers.add_module('conv1', nn.Conv2d(in_channels, WIDTH, 3, stride, padding=1, bias=False))
    layers.add_module('bn1', nn.BatchNorm2d(WIDTH))
    layers.add_module('relu', nn.ReLU())
    return layers
