"""Strides turned into dilations, so that a trained network gives a denser map from the same weights.

The rule is the à trous one (https://arxiv.org/abs/1606.00915, section 3.1): a layer that loses its stride keeps the
dilation it had, all that follow it take that stride up in theirs. Each value of the strided network's map then occurs
in the denser one.
"""

import copy
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.backbones.chain import BlockChain, Layout


def dilated(task: str, branch: BlockChain, layout: Layout, entry: str | None, output_stride: int) -> BlockChain:
    """``branch`` with its map kept at ``output_stride``; ``strides`` says which each block has then.

    Args:
        task: Whose branch it is.
        branch: Blocks whose strides beyond ``output_stride`` become dilations.
        layout: Of the whole chain.
        entry: Name of the block before the branch; None if the images enter it.
        output_stride: The stride against the image that its last map is to have.

    Raises:
        Mistake: if the branch cannot have it: its strides are no convolutions' or poolings', or it looks at the whole
            map at once, as attention and squeeze-and-excitation do, so that each value depends on how dense the map is.
    """
    before = layout.strides[entry] if entry else 1
    own = layout.strides[branch.names[-1]]
    if output_stride == own:
        return branch
    finer = sorted({stride for stride in layout.strides.values() if before <= stride < own}, reverse=True)
    if output_stride in finer and (dense := _dense(branch, layout, entry, output_stride)):
        dense.strides = {name: min(layout.strides[name], output_stride) for name in branch.names}
        return dense
    possible = [own, *(stride for stride in finer if stride != output_stride and _dense(branch, layout, entry, stride))]
    if before > output_stride:
        why = f'but what comes before it, up to {entry!r}, already has stride {before}. Split earlier'
    elif output_stride > own:
        why = f'but its last map has stride {own}. Leave output_stride out'
    elif output_stride not in layout.strides.values():
        why = 'but it has no block of that stride. Leave output_stride out'
    else:
        why = (
            'but at that stride its map would not hold the values that it has without. Leave output_stride out, end '
            f"the branch at a finer level with out_blocks=('/{output_stride}',)"
        )
    raise Mistake(
        f'Branch {task!r} asks for output_stride={output_stride}, {why}, or ask for {" or ".join(map(str, possible))}'
    )


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


@torch.no_grad()
def _dense(branch: BlockChain, layout: Layout, entry: str | None, stride: int) -> Any:
    """The branch with a map of ``stride``; None unless it has that level's rows, and all values of the plain one.

    All weights are drawn at random to see that: a fresh network's ones, zeros and small values hide what its norms,
    residual paths, attention and global contexts say once it is trained.
    """
    dense = copy.deepcopy(branch)
    dilate(dense, layout.strides, layout.strides[entry] if entry else 1, stride)
    networks = copy.deepcopy(branch).eval(), copy.deepcopy(dense).eval()
    generators = [torch.Generator().manual_seed(0) for _ in range(3)]
    for network, generator in zip(networks, generators, strict=False):
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.normal_(0, (len(tensor) / tensor.numel()) ** 0.5, generator=generator)
            elif tensor.is_floating_point() and 'running_mean' not in name:
                tensor.uniform_(0.5, 1.5, generator=generator)
    channels, side = (layout.channels[entry], layout.sides[entry]) if entry else (3, branch.size)
    x = torch.randn(1, channels, side, side, generator=generators[2])
    try:
        plain, finer = (network(x) for network in networks)
    except (RuntimeError, TypeError, ValueError):  # an attention that was built for the strided map
        return None
    level = [name for name, other in layout.strides.items() if other == stride][-1]
    factor = layout.strides[branch.names[-1]] // stride
    if finer.shape[2] != layout.sides[level]:
        return None
    for top, left in product(range(factor), repeat=2):
        part = finer[..., top::factor, left::factor][..., : plain.shape[2], : plain.shape[3]]
        if part.shape == plain.shape and (part - plain).abs().max() <= 1e-4 * plain.abs().max():
            return dense
    return None


def _dilate_block(block: nn.Module, rate: int) -> None:
    """Dilate the layers of ``block`` by ``rate``, those behind a stride by as much more.

    A strided 1x1 convolution is taken for a shortcut: it loses its stride, the layers after it are as before.
    """
    for name, layer in list(block.named_modules()):
        if isinstance(layer, nn.MaxPool2d):
            kernel, padding = _side(layer.kernel_size), _side(layer.padding)
            before, after = padding * rate, (kernel - 1 - padding) * rate
            # torch allows no padding beyond half the kernel, so a layer of its own pads
            pad = nn.ConstantPad2d((before, after, before, after), float('-inf'))
            dense = nn.Sequential(pad, nn.MaxPool2d(kernel, stride=1, dilation=rate))
            parent, _, leaf = name.rpartition('.')
            setattr(block.get_submodule(parent), leaf, dense)
            rate *= _side(layer.stride)
        elif isinstance(layer, nn.Conv2d):
            stride, layer.stride = layer.stride[0], (1, 1)
            if layer.kernel_size == (1, 1):
                continue
            layer.dilation = (rate, rate)
            if not isinstance(layer.padding, str):
                missing = (layer.kernel_size[0] - 1 - 2 * layer.padding[0]) * rate
                if missing > 0 and type(layer) is nn.Conv2d:  # as in ConvNeXt's 2x2, which look below and to the right
                    layer.register_forward_pre_hook(partial(_pad_end, count=missing))
                layer.padding = (layer.padding[0] * rate, layer.padding[1] * rate)
            rate *= stride


def _pad_end(layer: nn.Module, args: tuple[Tensor], count: int) -> Tensor:
    """The map that a convolution gets, with zeros below and to the right."""
    return F.pad(args[0], (0, count, 0, count))


def _side(value: int | tuple[int, int]) -> int:
    return value if isinstance(value, int) else value[0]
