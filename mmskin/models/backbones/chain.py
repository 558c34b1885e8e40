"""A network as a chain of named blocks, the form in which `SplitBackbone` takes it."""

import difflib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake

__all__ = ['BlockChain', 'position']


def position(name: str, names: Sequence[str]) -> int:
    """The place of block ``name`` among ``names``.

    Raises:
        Mistake: if it is not among them; the message lists near matches.
    """
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    listed = f'Near matches: {", ".join(near)}' if near else f'The blocks are {", ".join(names)}'
    raise Mistake(f'No block is named {name!r}. {listed}.')


class BlockChain(nn.Module):
    """Named blocks, run one after the other.

    A dot in a name becomes a level of the state-dict key, as in ``layer3.10.conv1.weight``. A network becomes usable
    as a backbone by a registered subclass that hands its blocks to this constructor. By convention its argument
    ``weights`` names what the blocks start from, and None stands for random initialisation.

    Args:
        blocks: The blocks by name, in the order they run. Each takes one map (N, C, H, W) and gives one.
    """

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names = tuple(blocks)
        for name, block in blocks.items():
            parent, _, leaf = name.rpartition('.')
            self._level(parent).add_module(leaf, block)

    def _level(self, path: str) -> nn.Module:
        level: nn.Module = self
        for part in filter(None, path.split('.')):
            if part not in level._modules:
                level.add_module(part, nn.Module())
            level = level.get_submodule(part)
        return level

    def __getitem__(self, name: str) -> nn.Module:
        return self.get_submodule(name)

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Each block with its name, in order."""
        return ((name, self[name]) for name in self.names)

    def forward(self, x: Tensor) -> Tensor:
        """Run all blocks over ``x`` (N, C, H, W)."""
        for _, block in self.items():
            x = block(x)
        return x

    @torch.no_grad()
    def measure(self, size: int = 64) -> tuple[dict[str, int], dict[str, int]]:
        """Channels and stride (against the image) of each block's output, measured by running a blank image.

        Args:
            size: Side of the image in pixels; a multiple of the chain's whole stride.
        """
        channels, strides = {}, {}
        training = self.training
        self.eval()
        x = torch.zeros(1, 3, size, size)
        for name, block in self.items():
            x = block(x)
            channels[name], strides[name] = x.shape[1], size // x.shape[2]
        self.train(training)
        return channels, strides
