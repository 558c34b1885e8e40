"""A network as a chain of named blocks, the form in which `SplitBackbone` takes it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake, near_matches


class Layout(NamedTuple):
    """The blocks of a chain with what each gives for a square image: channels, and the side of the map in cells.

    ``strides`` are against the image.
    """

    channels: dict[str, int]
    sides: dict[str, int]
    strides: dict[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        """The blocks in order."""
        return tuple(self.channels)

    def find(self, name: str) -> str:
        """The block called ``name``; of a level such as '/16' the last block whose map has that stride."""
        levels = ', '.join(f'/{stride}' for stride in dict.fromkeys(self.strides.values()))
        if not name.startswith('/'):
            try:
                return self.names[position(name, self.names)]
            except Mistake as error:
                raise Mistake(f'{error} A level may stand for a block: {levels}') from error
        at = [block for block, stride in self.strides.items() if name == f'/{stride}']
        if not at:
            raise Mistake(f'No block has a map of level {name!r}. The levels are {levels}.')
        return at[-1]


def position(name: str, names: Sequence[str]) -> int:
    """The place of block ``name`` among ``names``."""
    if name in names:
        return names.index(name)
    hint = near_matches(name, names, f'The blocks are {", ".join(names)}')
    raise Mistake(f'No block is named {name!r}. {hint}.')


class BlockChain(nn.Module):
    """Named blocks, run one after the other.

    A dot in a name becomes a level of the state-dict key, as in ``layer3.10.conv1.weight``. A network becomes usable
    as a backbone by a registered subclass that hands its blocks to this constructor. By convention its argument
    ``weights`` names what the blocks start from, and None stands for random initialisation.

    Args:
        blocks: The blocks by name, in the order they run. Each takes one map (N, C, H, W) and gives one; one with an
            attribute ``carries`` takes and gives a pair, the map and what travels next to it.
        size: Side of the images for which it is measured. A subclass with an argument of this name gets the config's.
    """

    def __init__(self, blocks: Mapping[str, nn.Module], size: int = 64) -> None:
        super().__init__()
        self.size = size
        self.names = tuple(blocks)
        for name, block in blocks.items():
            *path, leaf = name.split('.')
            level: nn.Module = self
            for part in path:
                if part not in level._modules:
                    level.add_module(part, nn.Module())
                level = level.get_submodule(part)
            level.add_module(leaf, block)

    def __getitem__(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Each block with its name, in order."""
        return ((name, self[name]) for name in self.names)

    def step(self, name: str, x: Tensor, beside: Any = None) -> tuple[Tensor, Any]:
        """Run one block over ``x`` (N, C, H, W), and over what travels next to it, such as a class token."""
        block = self[name]
        return block(x, beside) if getattr(block, 'carries', False) else (block(x), beside)

    def forward(self, x: Tensor) -> Tensor:
        """Run all blocks over ``x`` (N, C, H, W)."""
        beside = None
        for name in self.names:
            x, beside = self.step(name, x, beside)
        return x

    @torch.no_grad()
    def measure(self) -> Layout:
        """What each block gives for a blank image of the chain's ``size``."""
        layout, stride = Layout({}, {}, {}), 1.0
        training = self.training
        self.eval()
        x, beside = torch.zeros(1, 3, self.size, self.size), None
        for name in self.names:
            before = x.shape[2]
            x, beside = self.step(name, x, beside)
            after = x.shape[2]
            if after > before:
                step = 1 / round(after / before)
            else:  # without padding a map is a little smaller than its stride says: Inception's is 25 of 224 at 8
                power = 2 ** int(math.log2(before / after))
                step = power if before % after and before < 1.2 * power * after else round(before / after)
            stride *= step
            layout.channels[name], layout.sides[name], layout.strides[name] = x.shape[1], after, round(stride)
        self.train(training)
        return layout
