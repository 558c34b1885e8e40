"""A network of any library as named blocks that hand each other maps, found by watching it run."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake

ANOTHER = 'take another network, such as a ResNet, ConvNeXt, Swin or ViT'
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Shape(Enum):
    """Stands for the height and width of the map that enters a block, or for one of the two."""

    SIZE, ROWS, COLUMNS = range(3)


def cut(network: nn.Module, run: str, size: int) -> dict[str, nn.Module]:
    """The blocks of ``network`` by the names that they have there, each from map to map (N, C, H, W).

    One image goes through. Modules that hand on what the one before gave them, be it a map, a map with its channels
    last, or tokens, are the blocks; a stage, which is a list of blocks, is opened. What comes before the first block
    without being such a sequence, as a class token and a position embedding do, is one block, ``stem``, and its
    further tokens travel from block to block with the map.

    Args:
        network: Takes images (N, 3, H, W). Its modules become the blocks'.
        run: Name of the method that computes its maps.
        size: Side of the images.

    Raises:
        Mistake: if the network does not take images of that size, makes a single cell of them, or is no sequence of
            blocks.
    """
    training = network.training
    network.eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    kind = type(network).__name__
    try:
        with torch.no_grad():
            seen = watch(network, run, image)
    except (AssertionError, IndexError, RuntimeError, ValueError) as error:
        raise Mistake(
            f"{kind} does not take images of {size} x {size} pixels: {error}; give another size in the chain's config, "
            'such as 224'
        ) from error
    last = _flat(seen.result)[-1]
    if last.ndim > 2 and _cells(last.shape) == 1:  # which looks like a pooled vector
        raise Mistake(
            f'{kind} makes one cell of an image of {size} x {size} pixels, and blocks are found by maps of several; '
            f"measure it larger, by size={2 * size} in the chain's config"
        )
    # the longest way from the image, or from the first block, to a map of more than one cell
    ends = [index for index, call in enumerate(seen.calls) if call.shapes and _cells(call.shapes[1]) > 1]
    lines = [_chain(seen.calls, index) for index in ends]
    line, whole = max(
        lines, key=lambda way: sum(call.heavy for call in way[0]) + len(way[0]) / 1000, default=([], True)
    )
    blocks = _blocks(network, run, seen, line, whole)
    _verify(kind, blocks, image, line[-1].output, seen.result)
    for block in blocks.values():
        block.train(training)
    return blocks


@dataclass
class Call:
    """A module at work: what went in, and where that came from.

    ``source`` is the place among its siblings of the call that gave the input, -1 if it is what the parent got, None
    if it is neither; ``line`` are the calls inside through which alone the input became the output.
    """

    name: str
    module: nn.Module
    entered: Any
    version: int
    extras: list[Any] = field(default_factory=list)  # further arguments, as a block gets them: (keyword or None, value)
    tensors: list[Tensor] = field(default_factory=list)  # those that are tensors
    fits: bool = True
    source: int | None = None
    children: list['Call'] = field(default_factory=list)
    line: list['Call'] = field(default_factory=list)
    output: Any = None
    output_version: int = 0
    shapes: tuple[torch.Size, ...] = ()
    gives_more: bool = False  # the output is the first of several, as where a map comes with its size

    @property
    def heavy(self) -> bool:
        """Whether it is more than one layer with weights."""
        return sum(p.ndim > 1 and p.numel() > len(p) for p in self.module.parameters()) > 1


def _trains(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


class Seen(NamedTuple):
    """A network at work: the calls that it makes itself, and what it gives; calls inside these are in their ``line``.

    ``started`` are the names of all modules that ran, in order; ``maps`` the shapes of those outputs that are maps.
    """

    calls: list[Call]
    result: Any
    started: list[str]
    maps: dict[str, torch.Size]


def watch(network: nn.Module, run: str, image: Tensor) -> Seen:
    """Let one image through and look on."""
    root = Call('', network, image, image._version)
    seen = Seen(root.children, None, [], {})
    stack = [root]
    names = {module: name for name, module in network.named_modules()}

    def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
        parent, given = stack[-1], [*((None, value) for value in args), *kwargs.items()]
        entered = given[0][1] if given and isinstance(given[0][1], Tensor) else None
        call = Call(names[module], module, entered, entered._version if entered is not None else 0)
        if entered is not None:
            call.source = _giver(entered, parent.children)
            if call.source is None and _same(entered, parent.entered, parent.version):
                call.source = -1
            _note_extras(call, root, given[1:], may_add=parent is root)
        seen.started.append(call.name)
        stack.append(call)

    def after(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        call = stack.pop()
        first = next((part for part in _flat(output) if isinstance(part, Tensor)), None)
        if isinstance(first, Tensor) and first.ndim == 4:
            seen.maps[call.name] = first.shape
        if isinstance(first, Tensor) and isinstance(call.entered, Tensor):
            call.output, call.output_version = first, first._version
            call.shapes = (call.entered.shape, first.shape)
            call.gives_more = first is not output
            line, complete = _chain(call.children, _giver(first, call.children))
            call.line = line if complete else []
        for child in call.children:  # their tensors are needed no more
            child.entered = child.output = None
        call.children = []
        stack[-1].children.append(call)

    with ExitStack() as hooks:
        for module in names:
            if module is not network:
                for handle in (
                    module.register_forward_pre_hook(before, with_kwargs=True),
                    module.register_forward_hook(after, with_kwargs=True),
                ):
                    hooks.callback(handle.remove)
        result = getattr(network, run)(image)
    return seen._replace(result=result)


def _flat(output: Any) -> list[Any]:
    return [*output] if isinstance(output, tuple | list) else [output]


def _giver(x: Tensor, calls: Sequence[Call]) -> int | None:
    """The place of the last of ``calls`` that gave ``x``."""
    places = reversed(range(len(calls)))
    return next((place for place in places if _same(x, calls[place].output, calls[place].output_version)), None)


def _same(x: Tensor, other: Any, version: int) -> bool:
    """Whether ``x`` is what ``other`` was when it had ``version``, possibly in another layout."""
    if not isinstance(other, Tensor) or other._version != version or x.numel() != other.numel():
        return False
    if x is other:
        return True
    return any(torch.equal(a, b) for a in _forms(x) for b in _forms(other) if a.shape == b.shape)


def _forms(x: Tensor) -> list[Tensor]:
    """What a tensor is as a map, if it is one, with channels first or last, or square tokens."""
    if x.ndim == 4:
        return [x, x.permute(0, 3, 1, 2)]
    if x.ndim == 3 and (side := math.isqrt(x.shape[1])) ** 2 == x.shape[1]:
        return [x, x.transpose(1, 2).unflatten(2, (side, side))]
    return [x]


def _note_extras(call: Call, root: Call, given: Sequence[tuple[str | None, Any]], may_add: bool) -> None:
    """Note what ``call`` got next to the map; a tensor has to be one that the stem may give to every block."""
    side = math.isqrt(_cells(call.entered.shape))
    sides = [type(value) is int and value == side > 1 for _, value in given]
    first = next((index for index, pair in enumerate(pairwise(sides)) if all(pair)), len(given))
    shape = {first: Shape.ROWS, first + 1: Shape.COLUMNS}
    for index, (keyword, value) in enumerate(given):
        if index in shape:
            call.extras.append((keyword, shape[index]))
        elif isinstance(value, Tensor):
            if may_add and not any(known is value for known in root.tensors):
                root.tensors.append(value)
            number = next((i for i, known in enumerate(root.tensors) if known is value), None)
            call.fits &= number is not None
            call.extras.append((keyword, _Extra(number or 0)))
        elif (
            isinstance(value, tuple | list | torch.Size) and len(value) == 2 and all(isinstance(v, int) for v in value)
        ):
            call.extras.append((keyword, Shape.SIZE))
        else:  # a whole number may be of this image's size alone
            call.fits &= value is None or isinstance(value, bool | float | str)
            call.extras.append((keyword, value))


@dataclass(frozen=True)
class _Extra:
    """Stands for one of the tensors that the stem gives to every block."""

    index: int


def _chain(calls: Sequence[Call], end: int | None) -> tuple[list[Call], bool]:
    """The calls that lead up to that at ``end``, and whether the first of them got what the parent got."""
    line: list[Call] = []
    while end is not None and end >= 0:
        line.insert(0, calls[end])
        end = calls[end].source
    return line, end == -1


def _cells(shape: torch.Size) -> int:
    """The positions of a square map or of tokens."""
    return shape[2] ** 2 if len(shape) == 4 else shape[1] if len(shape) == 3 else 1


def _opened(call: Call) -> list[Call]:
    """The blocks of a stage, which is a list of them or has one, or has modules of one class; else the call itself."""
    line, inner = call.line, [_opened(child) for child in call.line]
    members = [member for opened in inner for member in opened]
    if not (all(child.fits for child in line) and any(member.heavy for member in members)):
        return [call]
    weighted = [child for child in line if _trains(child.module)]
    alike = len({type(child.module) for child in weighted}) == 1 and all(child.heavy for child in weighted)
    lists = any(child.heavy and '.' in child.name.removeprefix(f'{call.name}.') for child in line)
    lists = lists or isinstance(call.module, CONTAINERS)
    nested = any(
        isinstance(child.module, CONTAINERS) and opened[0] is not child
        for child, opened in zip(line, inner, strict=True)
    )
    return members if alike or lists or nested else [call]


class Carry(NamedTuple):
    """What travels from block to block with the map: further tokens (N, P, C), and the stem's tensors by number."""

    tokens: Tensor
    tensors: dict[int, Tensor]


class MapBlock(nn.Module):
    """A block that works on tokens or on maps with channels last, as one from map to map.

    Args:
        block: The block.
        takes: 'map' (N, C, H, W), 'nhwc' or 'tokens'.
        gives: Likewise; it may give a tuple whose second entry is height and width of the map.
        extras: What it gets after the map, by keyword or by place.
    """

    def __init__(self, block: nn.Module, takes: str, gives: str, extras: Sequence[tuple[str | None, Any]]) -> None:
        super().__init__()
        self.block = block
        self.takes, self.gives = takes, gives
        self.extras = [*extras]

    def forward(self, x: Tensor) -> Tensor:
        """The map (N, C', H', W') that the block makes of ``x`` (N, C, H, W)."""
        return self.run(x, None)[0]

    def run(self, x: Tensor, carry: Carry | None) -> tuple[Tensor, Carry | None]:
        size = x.shape[2:]
        if self.takes == 'nhwc':
            x = x.permute(0, 2, 3, 1)
        elif self.takes == 'tokens':
            x = x.flatten(2).transpose(1, 2)  # (N, HW, C)
            x = torch.cat([carry.tokens, x], dim=1) if carry is not None else x
        extras = [(keyword, self._extra(value, size, carry)) for keyword, value in self.extras]
        y, *rest = _flat(self.block(x, *(v for k, v in extras if k is None), **{k: v for k, v in extras if k}))
        if self.gives == 'nhwc':
            return y.permute(0, 3, 1, 2), carry
        if self.gives == 'map':
            return y, carry
        if carry is not None:
            carry = carry._replace(tokens=y[:, : carry.tokens.shape[1]])
            y = y[:, carry.tokens.shape[1] :]
        given = rest if len(rest) == 2 else _flat(rest[0]) if rest else []  # height and width, where it says them
        rows, columns = given if len(given) == 2 else _grid(y.shape[1], size)
        return y.transpose(1, 2).unflatten(2, (int(rows), int(columns))), carry

    def _extra(self, value: Any, size: torch.Size, carry: Carry | None) -> Any:
        if isinstance(value, _Extra):
            assert carry is not None
            return carry.tensors[value.index]
        places = {Shape.SIZE: (size[0], size[1]), Shape.ROWS: size[0], Shape.COLUMNS: size[1]}
        return places[value] if isinstance(value, Shape) else value


class CarryingBlock(MapBlock):
    """A block of a network with further tokens, which go in and come out with the map."""

    carries = True

    def forward(self, x: Tensor, carry: Carry) -> tuple[Tensor, Carry]:  # type: ignore[override]
        return self.run(x, carry)  # type: ignore[return-value]


def _grid(length: int, size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of a map that has ``length`` cells where one of ``size`` is reduced or patches are taken."""
    step = max(1, round(math.sqrt(size[0] * size[1] / length)))
    grids = [(-(-size[0] // step), -(-size[1] // step)), (size[0] // step, size[1] // step)]
    for rows, columns in grids:
        if rows * columns == length:
            return rows, columns
    raise Mistake(
        f'{length} tokens do not fill a map of an input of {size[0]} x {size[1]}; give a size that patches fit'
    )


def _layout(shape: torch.Size, nhwc: bool) -> str:
    if len(shape) == 3:
        return 'tokens'
    channels_last = shape[1] == shape[2] != shape[3] or (nhwc and shape[1] == shape[2])
    return 'nhwc' if channels_last else 'map'


def _blocks(network: nn.Module, run: str, seen: Seen, line: Sequence[Call], whole: bool) -> dict[str, nn.Module]:
    """The calls of ``line`` as blocks, with stages opened, and with a stem unless they are the whole network.

    Of a whole network, what comes before the first heavy block is the stem, and what comes after the last the head.
    """
    members = [member for call in line for member in _opened(call)]
    if not members or not all(call.fits for call in members):
        kind = type(network).__name__
        raise Mistake(f'{kind} is not a sequence of blocks in which each gets the output of the one before; {ANOTHER}')
    while not whole and not members[0].heavy:  # dropout and the like
        members.pop(0)
    blocks: dict[str, nn.Module] = {} if whole else {'stem': _stem(network, run, seen, members[0])}
    nhwc = any(shape[1] == shape[2] != shape[3] for call in members for shape in call.shapes if len(shape) == 4)
    for call in (call for call in members if not isinstance(call.module, nn.Identity)):
        takes, gives = (_layout(shape, nhwc) for shape in call.shapes)
        if not whole:
            blocks[call.name] = CarryingBlock(call.module, takes, gives, call.extras)
        elif takes == gives == 'map' and not (call.extras or call.gives_more):
            blocks[call.name] = call.module
        else:
            blocks[call.name] = MapBlock(call.module, takes, gives, call.extras)
    if len(members) == 1 and isinstance(members[0].module, CONTAINERS):  # of single layers, as in VGG
        blocks = {}
        for layer in members[0].line:  # a block is one with weights, and what follows it
            if not blocks or isinstance(layer.module, nn.Conv2d | nn.Linear):
                block = blocks[layer.name] = nn.Sequential()
            block.add_module(layer.name.rpartition('.')[2], layer.module)
    if not whole:
        return blocks
    heavy = {call.name for call in members if call.heavy}
    single = {call.name for call in line if '.' not in call.name}  # no member of a list or stage
    cores = (heavy - single or heavy) & {*blocks} or {*blocks}
    names = [*blocks]
    places = [index for index, name in enumerate(names) if name in cores]
    parts = {'stem': names[: places[0]], 'head': names[places[-1] + 1 :]}
    grouped: dict[str, nn.Module] = {}
    for name in names:
        group = next((key for key, members in parts.items() if name in members and len(members) > 1), None)
        if group is None:
            grouped[name] = blocks[name]
        else:
            grouped.setdefault(group, nn.Sequential()).add_module(name.replace('.', '_'), blocks[name])
    return grouped


class Reached(Exception):  # noqa: N818 (no error)
    """The stem has come to the first block, with what is there."""


class _Gate(nn.Module):
    def forward(self, *args: Any, **kwargs: Any) -> None:
        raise Reached(args, kwargs)


class Stem(nn.Module):
    """What a network does before its first block, as that block's input: a map, and what travels next to it.

    Args:
        network: Up to the first block.
        run: Name of its method.
        num_tokens: How many tokens there are before those of the map.
        extras: Places and keywords of the tensors that every block gets, by number.
    """

    carries = True

    def __init__(self, network: nn.Module, run: str, num_tokens: int, extras: Mapping[int, int | str]) -> None:
        super().__init__()
        self.network = network
        self.method, self.num_tokens, self.extras = run, num_tokens, extras

    def forward(self, image: Tensor, carry: None = None) -> tuple[Tensor, Carry]:
        """The map (N, C, h, w) of images (N, 3, H, W), and the rest."""
        try:
            getattr(self.network, self.method)(image)
        except Reached as reached:
            args, kwargs = reached.args
        tokens = args[0]
        tensors = {number: (kwargs if isinstance(at, str) else args)[at] for number, at in self.extras.items()}
        if tokens.ndim == 4:
            return tokens, Carry(tokens[:, :0].flatten(2), tensors)
        grid = _grid(tokens.shape[1] - self.num_tokens, image.shape[2:])
        x = tokens[:, self.num_tokens :].transpose(1, 2).unflatten(2, grid)
        return x, Carry(tokens[:, : self.num_tokens], tensors)


def _stem(network: nn.Module, run: str, seen: Seen, first: Call) -> Stem:
    """The network as far as ``first``; what comes later is left out of it, since nothing would train it."""
    earlier = seen.started[: seen.started.index(first.name)]
    length = first.shapes[0][1]
    cells = [_cells(shape) for name in earlier if (shape := seen.maps.get(name)) and _cells(shape) <= length]
    num_tokens = length - cells[-1] if cells and len(first.shapes[0]) == 3 else 0
    places = [keyword or index for index, (keyword, _) in enumerate(first.extras, 1)]
    extras = {value.index: at for at, (_, value) in zip(places, first.extras, strict=True) if isinstance(value, _Extra)}

    def prune(module: nn.Module, prefix: str) -> None:
        for leaf in [*module._modules]:
            name = f'{prefix}{leaf}'
            if name == first.name:
                module._modules[leaf] = _Gate()
            elif first.name.startswith(f'{name}.'):
                prune(module.get_submodule(leaf), f'{name}.')
            elif _trains(module.get_submodule(leaf)) and not any(f'{ran}.'.startswith(f'{name}.') for ran in earlier):
                module._modules[leaf] = nn.Identity()

    prune(network, '')
    return Stem(network, run, num_tokens, extras)


@torch.no_grad()
def _verify(kind: str, blocks: Mapping[str, nn.Module], image: Tensor, end: Tensor, result: Any) -> None:
    """Make sure that the blocks give what the network gave, at its last block and, where that is a map, as a whole."""
    x, beside = image, None
    if isinstance(stem := blocks.get('stem'), Stem):
        corner = image.clone()
        corner[..., : image.shape[2] // 4, : image.shape[3] // 4] += 1
        changed = (stem(corner)[0] != stem(image)[0]).any(1)[0]  # (h, w)
        reach = -(-changed.shape[0] // 4) + 1
        if changed[reach:].any() or changed[:, reach:].any():
            raise Mistake(f'{kind} orders its tokens in another way than row by row; {ANOTHER}')
    for block in blocks.values():
        x, beside = block(x, beside) if getattr(block, 'carries', False) else (block(x), beside)
    rest = beside.tokens.shape[1] if beside is not None else 0
    whole = _flat(result)[-1]
    for expected in (end, whole):
        cells = expected[:, rest:] if expected.ndim == 3 else expected
        if cells.ndim > 2:  # no pooled vector
            forms = [form for form in _forms(cells) if form.shape == x.shape]
            if not any(torch.allclose(form, x, rtol=1e-3, atol=1e-3 * float(x.abs().max())) for form in forms):
                raise Mistake(f'{kind} does more between its blocks than pass on their output; {ANOTHER}')
