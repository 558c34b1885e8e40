"""Strides turned into dilations, so that a trained network gives a denser map from the same weights.

The rule is the à trous one (https://arxiv.org/abs/1606.00915, section 3.1): a layer that loses its stride keeps the
dilation it had, all that follow it take that stride up in theirs. Each value of the strided network's map then occurs
in the denser one.
"""

from collections.abc import Mapping

from torch import nn

from mmskin.models.backbones.chain import BlockChain

__all__ = ['dilate']


def dilate(chain: BlockChain, strides: Mapping[str, int], entry_stride: int, output_stride: int) -> None:
    """Keep the map of ``chain`` at ``output_stride``, in place.

    Args:
        chain: Blocks whose strides beyond ``output_stride`` become dilations.
        strides: Each block's stride against the image, as it was before.
        entry_stride: Stride of the map that enters the chain.
        output_stride: The largest stride against the image that is left.
    """
    before, rate = entry_stride, 1
    for name, block in chain.items():
        grows = strides[name] // before
        before = strides[name]
        if before > output_stride:
            _dilate_block(block, rate)
            rate *= grows


def _dilate_block(block: nn.Module, rate: int) -> None:
    """Dilate the layers of ``block`` by ``rate``, those behind a stride by as much more.

    A strided 1x1 convolution is taken for a shortcut: it loses its stride, the layers after it are as before.
    """
    for name, layer in list(block.named_modules()):
        if isinstance(layer, nn.MaxPool2d):
            parent, _, leaf = name.rpartition('.')
            setattr(block.get_submodule(parent), leaf, _dense_pool(layer, rate))
            rate *= _side(layer.stride)
        elif isinstance(layer, nn.Conv2d):
            stride, layer.stride = layer.stride[0], (1, 1)
            if layer.kernel_size != (1, 1):
                _dilate_conv(layer, rate)
                rate *= stride


def _dilate_conv(conv: nn.Conv2d, rate: int) -> None:
    conv.dilation = (rate, rate)
    if not isinstance(conv.padding, str):
        conv.padding = (conv.padding[0] * rate, conv.padding[1] * rate)


def _dense_pool(pool: nn.MaxPool2d, rate: int) -> nn.Module:
    """``pool`` with stride 1: torch allows no padding beyond half the kernel, so a layer of its own pads."""
    kernel, padding = _side(pool.kernel_size), _side(pool.padding)
    before, after = padding * rate, (kernel - 1 - padding) * rate
    pad = nn.ConstantPad2d((before, after, before, after), float('-inf'))
    return nn.Sequential(pad, nn.MaxPool2d(kernel, stride=1, dilation=rate))


def _side(value: int | tuple[int, int]) -> int:
    return value if isinstance(value, int) else value[0]
