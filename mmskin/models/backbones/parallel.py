"""Several networks that look at one image side by side."""

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.split import Passing
from mmskin.models.weights import without_lookups
from mmskin.registry import MODELS

__all__ = ['ParallelBackbone']


@MODELS.register_module()
class ParallelBackbone(nn.Module):
    """Networks of a task's own, whose last maps its head gets together; nothing is shared and nothing passed.

    Args:
        branches: Per task the config of each network, a `BlockChain`, by a name of one's choice. The head gets their
            maps in this order.
    """

    def __init__(self, branches: Mapping[str, Mapping[str, dict]]) -> None:
        super().__init__()
        self.chains = branches
        self.shared = BlockChain({})
        self.branches = nn.ModuleDict({task: _build(chains) for task, chains in branches.items()})

    def init_weights(self) -> None:
        """Load the weights that the networks' configs name."""
        for task, chains in self.chains.items():
            for name, chain in chains.items():
                if without_lookups(chain) != chain:
                    self.branch(task)[name].load_state_dict(MODELS.build(chain).state_dict())

    def maps_of(self, task: str) -> list[tuple[int, int]]:
        """Channels and stride of each network's last map."""
        layouts = [cast(BlockChain, chain).measure() for chain in self.branch(task).values()]
        return [(layout.channels[layout.names[-1]], layout.strides[layout.names[-1]]) for layout in layouts]

    def branch(self, task: str) -> nn.ModuleDict:
        """The networks of ``task``."""
        return cast(nn.ModuleDict, self.branches[task])

    def blocks_at(self, site: str, tasks: Sequence[str]) -> dict[str, str]:
        """Refuse to pass features.

        Raises:
            Mistake: always.
        """
        raise Mistake(f'Features cannot be passed at {site!r}: a ParallelBackbone has no blocks in common.')

    def forward(
        self, images: Tensor, tasks: Sequence[str], passing: Mapping[str, Passing] | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """The last map of every network of ``tasks`` for normalised images (N, 3, H, W)."""
        return {task: tuple(chain(images) for chain in self.branch(task).values()) for task in tasks}


def _build(chains: Mapping[str, dict]) -> nn.ModuleDict:
    """The networks of one task, without the weights that their configs name."""
    return nn.ModuleDict({name: MODELS.build(without_lookups(chain)) for name, chain in chains.items()})
