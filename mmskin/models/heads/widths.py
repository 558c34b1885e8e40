"""The widths of heads and necks, from the maps that they get."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mmskin.errors import Mistake
from mmskin.registry import MODELS, options_of

__all__ = ['with_widths']

Maps = Sequence[tuple[int, int]]  # channels and stride of each


def with_widths(task: Mapping[str, Any], maps: Maps) -> dict[str, Any]:
    """The config of a task with what its neck and its head leave out of the maps that enter them.

    Filled in, where the class has such an option and the config does not state it: ``in_channels``, of one map or of
    all; ``in_index``, the places of all maps, for the heads of mmseg that read several; ``feature_strides``; and
    ``c1_in_channels``, of the first of several maps. A head that takes one map or several gets several if there are.

    Args:
        task: Config of the task.
        maps: Channels and stride against the image of each map that its branch gives.

    Raises:
        Mistake: if the head or the neck can do with neither the last map nor all of them, or states a width of no map.
    """
    _check_stated(task['neck'] if task.get('neck') else task.get('head'), maps)
    filled = dict(task)
    if task.get('neck'):
        filled['neck'] = _filled(task['neck'], maps)
    head = task.get('head')
    if (
        isinstance(head, Mapping)
        and 'in_channels' not in head
        and 'in_channels' in options_of(MODELS.get(head['type']))
    ):
        filled['head'] = _filled(head, _behind(filled['neck'], maps) if task.get('neck') else maps)
    elif isinstance(head, Mapping) and 'in_channels' in head:
        filled['head'] = _filled(head, maps)
    return filled


def _check_stated(part: Any, maps: Maps) -> None:
    """Make sure that a stated ``in_channels`` is of the maps; one map's, those of several, or their sum."""
    stated = part.get('in_channels') if isinstance(part, Mapping) else None
    widths = [width for width, _ in maps]
    several = list(stated) if isinstance(stated, list | tuple) else [stated]
    if stated is not None and {*several} - {*widths, sum(widths)}:
        raise Mistake(
            f'{part["type"]}: in_channels={stated}, and the maps of its branch have {", ".join(map(str, widths))} '
            'channels; leave in_channels out, and it is filled in'
        )


def _filled(part: Mapping[str, Any], maps: Maps) -> dict[str, Any]:
    kind = MODELS.get(part['type'])
    options = options_of(kind)
    missing = [name for name in ('in_channels', 'in_index', 'feature_strides', 'c1_in_channels') if name in options]
    missing = [name for name in missing if name not in part]
    if 'in_channels' in part:  # of the rest only what cannot be done without
        missing = [name for name in missing if options[name].default is inspect.Parameter.empty]
    candidates = [{**part, **{key: given[key] for key in missing if key in given}} for given in _given(part, maps)]
    if not missing or candidates[0] == part:
        return dict(part)
    annotation = options['in_channels'].annotation if 'in_channels' in missing else None
    if annotation is int:
        return candidates[0]
    takes_several = kind.__module__.startswith('mmskin.') or 'in_index' in options
    if takes_several or isinstance(options['in_channels'].default, tuple | list):
        candidates.reverse()
    for candidate in candidates[:-1]:
        try:
            with torch.random.fork_rng(devices=[]):
                MODELS.build(candidate)
        except (AssertionError, IndexError, TypeError, ValueError):
            continue
        return candidate
    return candidates[-1]


def _given(part: Mapping[str, Any], maps: Maps) -> Iterator[dict[str, Any]]:
    """What a reader of one map is to be told, and what one of all."""
    channels, strides = [width for width, _ in maps], [stride for _, stride in maps]
    index = part.get('in_index', -1)
    first = {'c1_in_channels': channels[0] if len(channels) > 1 else 0}
    if isinstance(index, int):
        if not -len(channels) <= index < len(channels):
            raise Mistake(f'in_index={index}: the head gets {len(channels)} maps; name more blocks in out_blocks')
        yield {**first, 'in_channels': channels[index]}
    indices = list(range(len(channels))) if isinstance(index, int) else list(index)
    chosen = {'in_channels': [channels[i] for i in indices], 'feature_strides': [strides[i] for i in indices]}
    if 'in_index' not in part or not isinstance(index, int):
        yield {**first, **chosen, 'in_index': indices}


@torch.no_grad()
def _behind(neck: Mapping[str, Any], maps: Maps) -> Maps:
    """The maps or vectors that ``neck`` makes of blank ones."""
    with torch.random.fork_rng(devices=[]):
        module: nn.Module = MODELS.build(dict(neck)).eval()
    side = 2 * max(stride for _, stride in maps)
    outputs = module(tuple(torch.zeros(1, width, side // stride, side // stride) for width, stride in maps))
    outputs = outputs if isinstance(outputs, tuple | list) else [outputs]
    return [(output.shape[1], side // output.shape[2] if output.ndim == 4 else 0) for output in outputs]
