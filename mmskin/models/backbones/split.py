"""One network cut in two, shared and then copied per task; a network for each task; several side by side."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, cast

from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.backbones.chain import BlockChain, Layout, position
from mmskin.models.backbones.dilation import dilated
from mmskin.models.weights import without_lookups
from mmskin.registry import MODELS

DECODER = 'decoder'  # 'decoder/16' is the map of '/16' that heads get
Features = dict[str, Tensor]
Passing = Callable[[Features, Features], Features]


class Backbone(nn.Module):
    """A shared beginning, ``shared``, and what is behind it for each task, ``branches``."""

    shared: Any
    branches: nn.ModuleDict

    def branch(self, task: str) -> Any:
        """What is behind the shared part for ``task``."""
        if task not in self.branches:
            raise Mistake(f'No branch is named {task!r}; the backbone has branches for {", ".join(self.branches)}')
        return self.branches[task]

    def blocks_at(self, site: str, tasks: Sequence[str]) -> dict[str, str]:
        """The blocks of ``tasks`` at which features can be passed between them, at the block or level ``site``.

        Raises:
            Mistake: if there is none, as where networks have no blocks in common.
        """
        kind = type(self).__name__
        raise Mistake(f'Features cannot be passed at {site!r}: a {kind} has no blocks in common; leave passing out')


@MODELS.register_module()
class SplitBackbone(Backbone):
    """A shared beginning and one branch per task, cut from one chain of blocks; or branches with networks of their own.

    All branches of one chain start from the same weights. Those that a chain's config names are read by
    `init_weights`, which MMEngine's Runner calls before it trains: a model built to test a checkpoint needs none.

    Wherever a block is named, so may be a level: '/16' is the last block whose map has that stride against the image,
    in the network of the branch, before ``output_stride`` changes it. Features are passed at a block of the branches,
    or in front of their decoders: 'decoder/16' is the map of level '/16' that heads get.

    Args:
        chain: Config of a `BlockChain`; None if every branch has its own.
        split_after: Name of the last shared block; None shares nothing.
        branches: Per task, ``output_stride`` (default: the chain's own; 16 or 8: strides beyond it become dilations in
            this branch), ``out_blocks`` (default: the last block), the names of the blocks whose maps the task's
            head gets, and ``chain``, the config of a network of its own, which shares nothing. Shared blocks may be
            named in ``out_blocks``. A branch ends with the last of them.

    Raises:
        Mistake: if a name is unknown, or a branch cannot have its ``output_stride``.
    """

    def __init__(
        self, chain: dict | None = None, split_after: str | None = None, branches: Mapping[str, dict] | None = None
    ) -> None:
        super().__init__()
        branches = branches or {}
        self.chains: dict[str | None, dict] = {None: {**chain}} if chain else {}
        self.chains |= {task: {**options['chain']} for task, options in branches.items() if options.get('chain')}
        built = {
            key: cast(BlockChain, MODELS.build(without_lookups(config), kind=BlockChain))
            for key, config in self.chains.items()
        }
        layouts = {key: blocks.measure() for key, blocks in built.items()}
        self.shared = BlockChain({})
        if chain and split_after is not None:
            end = layouts[None].names.index(layouts[None].find(split_after)) + 1
            self.shared = BlockChain(_part(built[None], 0, end))
        self.layouts: dict[str, Layout] = {}
        self.out_blocks: dict[str, tuple[str, ...]] = {}
        self.branches = nn.ModuleDict()
        for task, options in branches.items():
            key = self._key(task)
            if key not in built:
                raise Mistake(f'Branch {task!r} has no chain; give SplitBackbone one, or the branch its own')
            self.layouts[task] = layouts[key]
            self.branches[task] = self._branch(
                task, built[key], **{name: value for name, value in options.items() if name != 'chain'}
            )

    def _key(self, task: str) -> str | None:
        return task if task in self.chains else None

    def _branch(
        self, task: str, blocks: BlockChain, output_stride: int | None = None, out_blocks: Sequence[str] | None = None
    ) -> BlockChain:
        layout = self.layouts[task]
        names = [layout.find(name) for name in (layout.names[-1:] if out_blocks is None else out_blocks)]
        self.out_blocks[task] = tuple(names)
        start = 0 if self._key(task) else len(self.shared.names)
        end = 1 + max(layout.names.index(name) for name in names)
        branch = BlockChain(copy.deepcopy(_part(blocks, start, end)), blocks.size)
        if output_stride is None:
            return branch
        return dilated(task, branch, layout, self.shared.names[-1] if start else None, output_stride)

    def init_weights(self) -> None:
        """Load the weights that the chains' configs name into the shared part and every branch."""
        for key, chain in self.chains.items():
            if without_lookups(chain) != chain:
                state = MODELS.build(chain).state_dict()
                parts = [self.branch(task) for task in self.branches if self._key(task) == key]
                for part in [*parts, self.shared] if key is None else parts:
                    part.load_state_dict({name: state[name] for name in part.state_dict()})

    def channels_in(self, site: str, task: str) -> int:
        """Channels of the map that enters ``site``, a block, level or decoder's level, in the network of ``task``."""
        layout = self.layouts[task]
        index = layout.names.index(layout.find(site.removeprefix(DECODER)))
        if site.startswith(f'{DECODER}/'):
            return layout.channels[layout.names[index]]
        return layout.channels[layout.names[index - 1]] if index else 3

    def channels_out(self, site: str, task: str) -> int:
        """Channels of the map that leaves ``site``, a block, level or decoder's level, in the network of ``task``."""
        return self.layouts[task].channels[self.layouts[task].find(site.removeprefix(DECODER))]

    def maps_of(self, task: str) -> list[tuple[int, int]]:
        """Channels and stride against the image of each map that the head of ``task`` gets."""
        layout, branch = self.layouts[task], self.branch(task)
        strides = getattr(branch, 'strides', layout.strides)
        return [(layout.channels[name], strides.get(name, layout.strides[name])) for name in self.out_blocks[task]]

    def blocks_at(self, site: str, tasks: Sequence[str]) -> dict[str, str]:
        """See ``Backbone``; at a decoder's level it is those tasks alone whose heads get a map of that level.

        Raises:
            Mistake: if it is shared or unknown, or a task's branch ends before it; if fewer than two heads get it.
        """
        if site.startswith(f'{DECODER}/'):
            blocks = self._at_decoder(site, tasks)
            if len(blocks) < min(2, len(tasks)):
                level = site.removeprefix(DECODER)
                raise Mistake(
                    f'Features cannot be passed at {site!r}: of the heads, {", ".join(blocks) or "none"} gets the map '
                    f'{level!r}; name it in the out_blocks of two branches at least'
                )
            return blocks
        blocks = {}
        for task in tasks:
            block, branch = self.layouts[task].find(site), self.branch(task)
            if block in self.shared and not self._key(task):
                raise Mistake(
                    f'Features cannot be passed at {site!r}: it is shared. The first block of the branches is '
                    f'{branch.names[0]!r}.'
                )
            position(block, branch.names)
            blocks[task] = block
        return blocks

    def _at_decoder(self, site: str, tasks: Sequence[str]) -> dict[str, str]:
        """The blocks whose maps of the level of ``site`` heads get, by those of ``tasks`` whose heads do."""
        blocks = {task: self.layouts[task].find(site.removeprefix(DECODER)) for task in tasks}
        return {task: block for task, block in blocks.items() if block in self.out_blocks[task]}

    def in_order(self, sites: Iterable[str]) -> list[str]:
        """Blocks and levels as the branches come to them, then decoders' levels, from coarse to fine."""

        def place(site: str) -> tuple[bool, int]:
            layout = next(iter(self.layouts.values()))
            index = layout.names.index(layout.find(site.removeprefix(DECODER)))
            is_late = site.startswith(f'{DECODER}/')
            return is_late, -index if is_late else index

        return sorted(sites, key=place)

    def forward(
        self, images: Tensor, tasks: Sequence[str], passing: Mapping[str, Passing] | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """Compute the maps of ``tasks``, and of these alone.

        Args:
            images: (N, 3, H, W), normalised.
            tasks: Names of branches.
            passing: What exchanges features, by the block or level at which it does. It is called with the maps that
                entered the block and those that it gave, each by task, and returns what continues from there, by task;
                at a decoder's level both are the maps that heads get.

        Returns:
            Per task the maps of its ``out_blocks``, each (N, C, h, w).
        """
        beside: Any = None  # what travels with the map
        x, shared = images, {}
        for name in self.shared.names:
            x, beside = self.shared.step(name, x, beside)
            shared[name] = x
        state = {task: (images, None) if self._key(task) else (x, beside) for task in tasks}
        maps = {task: {**shared} for task in tasks}
        passing = passing or {}
        late = [site for site in passing if site.startswith(f'{DECODER}/')]
        for site, steps in self._schedule(tasks, [site for site in passing if site not in late]):
            entered = {task: state[task][0] for task in steps}
            for task, name in steps.items():
                state[task] = self.branch(task).step(name, *state[task])
            if site is not None:
                passed = passing[site](entered, {task: state[task][0] for task in steps})
                state |= {task: (passed[task], state[task][1]) for task in steps}
            for task, name in steps.items():
                maps[task][name] = state[task][0]
        for level in self.in_order(late):
            blocks = self._at_decoder(level, tasks)
            given = {task: maps[task][block] for task, block in blocks.items()}
            passed = passing[level](given, {**given})
            for task, block in blocks.items():
                maps[task][block] = passed[task]
        return {task: tuple(maps[task][name] for name in self.out_blocks[task]) for task in tasks}

    def _schedule(self, tasks: Sequence[str], sites: Sequence[str]) -> list[tuple[str | None, dict[str, str]]]:
        """The next block of each branch, step by step; where features are passed, those between which they are."""
        at: dict[str, dict[str, int]] = {}  # by site and task, the place of the block
        for name in sites:
            places = {task: (self.layouts[task].find(name), self.branch(task).names) for task in tasks}
            at[name] = {task: names.index(block) for task, (block, names) in places.items() if block in names}
        schedule: list[tuple[str | None, dict[str, str]]] = []
        done = dict.fromkeys(tasks, 0)
        pending = sorted(at, key=lambda site: [*at[site].values()])
        for number, site in enumerate([*pending, None]):
            runs = []
            for task in tasks:
                stops = [at[later][task] for later in pending[number:] if task in at[later]]
                runs.append(self.branch(task).names[done[task] : stops[0] if stops else None])
                done[task] += len(runs[-1])
            for names in zip_longest(*runs):
                schedule.append((None, {task: name for task, name in zip(tasks, names, strict=True) if name}))
            if site is not None:
                schedule.append((site, {task: self.branch(task).names[place] for task, place in at[site].items()}))
                done.update({task: place + 1 for task, place in at[site].items()})
        return schedule


def _part(chain: BlockChain, start: int, end: int) -> dict[str, nn.Module]:
    return {name: chain[name] for name in chain.names[start:end]}


@MODELS.register_module()
class ParallelBackbone(Backbone):
    """Networks of a task's own, whose last maps its head gets together; nothing is shared and nothing passed.

    Args:
        branches: Per task the config of each network, a `BlockChain`, by a name of one's choice. The head gets their
            maps in this order.
    """

    def __init__(self, branches: Mapping[str, Mapping[str, dict]]) -> None:
        super().__init__()
        self.chains = branches
        self.shared = BlockChain({})
        self.branches = nn.ModuleDict()
        for task, chains in branches.items():
            networks = {name: MODELS.build(without_lookups(chain), kind=BlockChain) for name, chain in chains.items()}
            self.branches[task] = nn.ModuleDict(networks)

    def init_weights(self) -> None:
        """Load the weights that the networks' configs name."""
        for task, chains in self.chains.items():
            for name, chain in chains.items():
                if without_lookups(chain) != chain:
                    self.branch(task)[name].load_state_dict(MODELS.build(chain).state_dict())

    def maps_of(self, task: str) -> list[tuple[int, int]]:
        """Channels and stride of each network's last map."""
        layouts = [chain.measure() for chain in self.branch(task).values()]
        return [(layout.channels[layout.names[-1]], layout.strides[layout.names[-1]]) for layout in layouts]

    def forward(
        self, images: Tensor, tasks: Sequence[str], passing: Mapping[str, Passing] | None = None
    ) -> dict[str, tuple[Tensor, ...]]:
        """The last map of every network of ``tasks`` for normalised images (N, 3, H, W)."""
        return {task: tuple(chain(images) for chain in self.branch(task).values()) for task in tasks}
