"""One network cut in two: what comes first is shared, what follows is copied once per task."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.backbones.chain import BlockChain, position
from mmskin.models.backbones.dilation import dilate
from mmskin.registry import MODELS

__all__ = ['SplitBackbone']

Features = dict[str, Tensor]
Passing = Callable[[Features, Features], Features]


@MODELS.register_module()
class SplitBackbone(nn.Module):
    """A shared beginning and one branch per task, cut from one chain of blocks.

    All branches start from the same weights. Those that ``chain`` names are read by `init_weights`, which MMEngine's
    Runner calls before it trains: a model built to test a checkpoint needs none.

    Args:
        chain: Config of a `BlockChain`.
        split_after: Name of the last shared block; None shares nothing.
        branches: Per task, ``output_stride`` (default: the chain's own; 16 or 8: strides beyond it become dilations in
            this branch) and ``out_blocks`` (default: the last block), the names of the blocks whose maps the task's
            head gets. Shared blocks may be named. A branch ends with the last of them.

    Raises:
        Mistake: if a name is unknown, or the shared part is already coarser than an ``output_stride``.
    """

    def __init__(self, chain: dict, split_after: str | None, branches: dict[str, dict]) -> None:
        super().__init__()
        self.chain = {**chain}
        blocks: BlockChain = MODELS.build({**chain, 'weights': None} if 'weights' in chain else self.chain)
        self.names = blocks.names
        self.channels, self.strides = blocks.measure()
        self.num_shared = 0 if split_after is None else position(split_after, self.names) + 1
        self.shared = BlockChain(_part(blocks, 0, self.num_shared))
        self.out_blocks: dict[str, tuple[str, ...]] = {}
        self.branches = nn.ModuleDict()
        for task, options in branches.items():
            self.branches[task] = self._branch(task, blocks, **options)

    def _branch(
        self,
        task: str,
        blocks: BlockChain,
        output_stride: int | None = None,
        out_blocks: Sequence[str] | None = None,
    ) -> BlockChain:
        names = self.names[-1:] if out_blocks is None else tuple(out_blocks)
        end = 1 + max(position(name, self.names) for name in names)
        self.out_blocks[task] = names
        branch = BlockChain(copy.deepcopy(_part(blocks, self.num_shared, end)))
        if output_stride is not None:
            stride = self.strides[self.names[self.num_shared - 1]] if self.num_shared else 1
            self._check_stride(task, stride, output_stride)
            dilate(branch, self.strides, stride, output_stride)
        return branch

    def _check_stride(self, task: str, shared: int, output_stride: int) -> None:
        if output_stride not in (8, 16, 32):
            raise Mistake(f'output_stride of branch {task!r} is {output_stride}; it can be 8, 16, 32 or None.')
        if shared > output_stride:
            raise Mistake(
                f'Branch {task!r} asks for output_stride={output_stride}, but the shared part, up to '
                f'{self.names[self.num_shared - 1]!r}, already has stride {shared}. Split earlier, or ask for {shared}.'
            )

    def init_weights(self) -> None:
        """Load the weights that the chain's config names into the shared part and every branch."""
        if not self.chain.get('weights'):
            return
        state = MODELS.build(self.chain).state_dict()
        for part in (self.shared, *self.branches.values()):
            part.load_state_dict({key: state[key] for key in part.state_dict()})

    def branch(self, task: str) -> BlockChain:
        """The blocks of ``task`` behind the shared part.

        Raises:
            Mistake: if there is no branch for ``task``.
        """
        if task not in self.branches:
            raise Mistake(f'No branch is named {task!r}; the backbone has branches for {", ".join(self.branches)}.')
        return cast(BlockChain, self.branches[task])

    def channels_in(self, block: str) -> int:
        """Channels of the map that enters ``block``, in every branch."""
        index = position(block, self.names)
        return self.channels[self.names[index - 1]] if index else 3

    def channels_out(self, block: str) -> int:
        """Channels of the map that ``block`` gives, in every branch."""
        return self.channels[self.names[position(block, self.names)]]

    def channels_of(self, task: str) -> int:
        """Channels of the last map that the head of ``task`` gets."""
        return self.channels_out(self.out_blocks[task][-1])

    def check_passing_site(self, block: str, tasks: Sequence[str]) -> None:
        """Make sure that features can be passed at ``block`` between ``tasks``.

        Raises:
            Mistake: if ``block`` is shared or unknown, or a task's branch ends before it.
        """
        for task in tasks:
            if block in self.shared:
                raise Mistake(
                    f'Features cannot be passed at {block!r}: it is shared. The first block of the branches is '
                    f'{self.names[self.num_shared]!r}.'
                )
            position(block, self.branch(task).names)

    def forward(
        self, images: Tensor, tasks: Sequence[str], passing: Mapping[str, Passing] | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """Compute the maps of ``tasks``, and of these alone.

        Args:
            images: (N, 3, H, W), normalised.
            tasks: Names of branches.
            passing: What exchanges features, by the block at which it does. It is called with the maps that entered
                the block and those that it gave, each by task, and returns what goes on from there, by task.

        Returns:
            Per task the maps of its ``out_blocks``, each (N, C, h, w).
        """
        passing = passing or {}
        x, shared = images, {}
        for name, block in self.shared.items():
            x = shared[name] = block(x)
        features = dict.fromkeys(tasks, x)
        maps = {task: {**shared} for task in tasks}
        for name in self.names[self.num_shared :]:
            features = self._step(name, features, passing)
            for task, feature in features.items():
                maps[task][name] = feature
        return {task: tuple(maps[task][name] for name in self.out_blocks[task]) for task in tasks}

    def _step(self, name: str, features: Features, passing: Mapping[str, Passing]) -> Features:
        inputs = {task: feature for task, feature in features.items() if name in self.branch(task)}
        outputs = {task: self.branch(task)[name](feature) for task, feature in inputs.items()}
        return passing[name](inputs, outputs) if name in passing else outputs


def _part(chain: BlockChain, start: int, end: int) -> dict[str, nn.Module]:
    return {name: chain[name] for name in chain.names[start:end]}
