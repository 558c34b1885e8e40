"""The heads of tasks, and the widths of heads and necks from the maps that they get."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.registry import MODELS, options_of


@MODELS.register_module()
class ClsHead(nn.Module):
    """Global average pooling and one linear layer, as in ResNet (https://arxiv.org/abs/1512.03385).

    Args:
        in_channels: Channels of the last feature map.
        num_classes: Number of classes.
        dropout: Share of the pooled features dropped while training.
    """

    def __init__(self, in_channels: int, num_classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(in_channels, num_classes)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, num_classes) from the last map (N, C, H, W) of ``feats``."""
        pooled = feats[-1].mean(dim=(2, 3))  # (N, C)
        return self.fc(self.dropout(pooled))


@MODELS.register_module()
class BilinearHead(nn.Module):
    """One linear layer on the bilinear features of the last map next to the averages of the maps before it.

    The last map's are the local features of Ge et al. (https://doi.org/10.1109/ISBI.2017.7950681), the averages their
    global ones. That each kind is brought to length 1 before they are joined is ours.

    Args:
        in_channels: Channels of the maps, the last one's last; a number for one map.
        num_classes: Number of classes.
        dropout: Share of the joined features dropped while training.
    """

    def __init__(self, in_channels: int | Sequence[int], num_classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        channels = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        self.num_maps = len(channels)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(sum(channels[:-1]) + channels[-1] ** 2, num_classes)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, num_classes) from the last maps (N, C, H, W) of ``feats``, as many as there are channels."""
        *others, local = feats[-self.num_maps :]
        averages = [F.normalize(feat.mean(dim=(2, 3)), dim=1) for feat in others]
        return self.fc(self.dropout(torch.cat([*averages, bilinear_pooling(local)], dim=1)))


def bilinear_pooling(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Which channels of a map occur together: (N, C * C), of length 1.

    The outer product of each position's features with themselves, summed over positions, then the signed square root
    and division by the Euclidean norm (Lin et al., https://arxiv.org/abs/1504.07889, section 3.1).

    Args:
        x: (N, C, H, W).
        eps: Keeps the square root's slope finite at 0.
    """
    x = x.flatten(2).float()  # (N, C, HW)
    products = torch.einsum('ncp,ndp->ncd', x, x).flatten(1).float() / x.shape[2]
    roots = products.sign() * ((products.abs() + eps).sqrt() - eps**0.5)
    return F.normalize(roots, dim=1)


@MODELS.register_module()
class ASPPHead(nn.Module):
    """Parallel dilated 3x3 convolutions, summed: atrous spatial pyramid pooling as in DeepLab v2.

    https://arxiv.org/abs/1606.00915, section 3.2. Each branch gives the logits directly, as in the ResNet-101 variant
    that the paper builds on; weights start from a normal distribution with deviation 0.01.

    Args:
        in_channels: Channels of the last feature map.
        out_channels: Logits of a pixel: 1 for one outline, or one for each class or outline.
        rates: Dilation rates; they are in cells of the feature map, so a coarser map wants smaller ones.
    """

    def __init__(self, in_channels: int, out_channels: int = 1, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        if not rates or min(rates) < 1:
            raise Mistake(f'rates={rates} of ASPPHead: give one or more, each from 1')
        self.branches = nn.ModuleList()
        for rate in rates:
            branch = nn.Conv2d(in_channels, out_channels, 3, padding=rate, dilation=rate)
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]
            self.branches.append(branch)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, out_channels, H, W) from the last map (N, C, H, W) of ``feats``."""
        return torch.stack([branch(feats[-1]) for branch in self.branches]).sum(0)


@MODELS.register_module()
class UNetHead(nn.Module):
    """U-Net's expanding path (https://arxiv.org/abs/1505.04597) over the maps of any encoder.

    mmseg has it only as one with its own encoder. A map is enlarged to the next finer one's size and
    joined with it; two convolutions follow.

    Args:
        in_channels: Channels of the encoder's maps, from fine to coarse; a number for one map.
        out_channels: Logits of a pixel: 1 for one outline, or one for each class or outline.
        channels: Channels of every level; U-Net halves them with every level, from 512 to 64.
    """

    def __init__(self, in_channels: int | Sequence[int], out_channels: int = 1, channels: int = 64) -> None:
        super().__init__()
        *skips, deepest = [in_channels] if isinstance(in_channels, int) else list(in_channels)
        entering = [deepest] + [channels] * len(skips)
        self.levels = nn.ModuleList()
        for below, skip in zip(entering, reversed(skips), strict=False):
            layers: list[nn.Module] = []
            for width in (below + skip, channels):
                convolution = nn.Conv2d(width, channels, 3, padding=1, bias=False)
                layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
            self.levels.append(nn.Sequential(*layers))
        self.out = nn.Conv2d(entering[-1], out_channels, 1)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """Logits (N, out_channels, h, w) at the finest of the maps used, from the last ones of ``feats``."""
        *skips, x = feats[-len(self.levels) - 1 :]
        for level, skip in zip(self.levels, reversed(skips), strict=True):
            x = F.interpolate(x, skip.shape[2:], mode='bilinear', align_corners=False)
            x = level(torch.cat([skip, x], dim=1))
        return self.out(x)


Maps = Sequence[tuple[int, int]]  # channels and stride of each


def with_widths(task: Mapping[str, Any], maps: Maps, size: int = 0) -> dict[str, Any]:
    """The config of a task with what its neck and its head leave out of the maps that enter them.

    Filled in, where the class has such an option and the config does not state it: ``in_channels``, of one map or of
    all; ``in_index``, the places of all maps, for the heads of mmseg that read several; ``feature_strides``; and
    ``c1_in_channels``, of the first of several maps. A head that takes one map or several gets several if there are.
    Where another package's head reads vectors, as most of mmpretrain's do, and gets maps, these are averaged:
    ``neck=dict(type='mmpretrain.GlobalAveragePooling')``.

    Args:
        task: Config of the task.
        maps: Channels and stride against the image of each map that its branch gives.
        size: Side of the images, where it is known.

    Raises:
        Mistake: if the head or the neck takes neither the last map nor all of them, or states a width that no map has;
            if another package's head gives no logits of them.
    """
    first: Any = task['neck'] if task.get('neck') else task.get('head')
    stated = first.get('in_channels') if isinstance(first, Mapping) else None
    widths = [width for width, _ in maps]
    several = list(stated) if isinstance(stated, list | tuple) else [stated]
    if stated is not None and {*several} - {*widths, sum(widths)}:
        raise Mistake(
            f'{first["type"]}: in_channels={stated}, and the maps of its branch have {", ".join(map(str, widths))} '
            'channels; leave in_channels out, and it is filled in'
        )
    filled = dict(task)
    if task.get('neck'):
        filled['neck'] = _filled(task['neck'], maps)
    head, entering = task.get('head'), maps
    if isinstance(head, Mapping) and ('in_channels' in head or 'in_channels' in options_of(MODELS.get(head['type']))):
        if task.get('neck') and 'in_channels' not in head:
            side = 4 * max(stride for _, stride in maps)
            outputs = _outputs(filled['neck'], maps, side)
            # a vector's stride is 0
            entering = [(feat.shape[1], side // feat.shape[2] if feat.ndim == 4 else 0) for feat in outputs]
        filled['head'] = _filled(head, entering)
    return _with_pooling(filled, maps, size)


def _filled(part: Mapping[str, Any], maps: Maps) -> dict[str, Any]:
    """The config of a neck or head with those of its options that ``maps`` decide."""
    kind = MODELS.get(part['type'])
    options = options_of(kind)
    missing = [name for name in ('in_channels', 'in_index', 'feature_strides', 'c1_in_channels') if name in options]
    missing = [name for name in missing if name not in part]
    if 'in_channels' in part:  # of the rest only what is required
        missing = [name for name in missing if options[name].default is inspect.Parameter.empty]
    channels, strides = [width for width, _ in maps], [stride for _, stride in maps]
    index = part.get('in_index', -1)
    first = {'c1_in_channels': channels[0] if len(channels) > 1 else 0}
    added: list[dict[str, Any]] = []  # to a reader of one map, and to one of all
    if isinstance(index, int):
        if not -len(channels) <= index < len(channels):
            raise Mistake(f'in_index={index}: the head gets {len(channels)} maps; name more blocks in out_blocks')
        added.append({**first, 'in_channels': channels[index]})
    if 'in_index' not in part or not isinstance(index, int):
        indices = list(range(len(channels))) if isinstance(index, int) else list(index)
        chosen = {'in_channels': [channels[i] for i in indices], 'feature_strides': [strides[i] for i in indices]}
        added.append({**first, **chosen, 'in_index': indices})
    candidates = [{**part, **{key: given[key] for key in missing if key in given}} for given in added]
    if not missing or candidates[0] == part:
        return dict(part)
    annotation = options['in_channels'].annotation if 'in_channels' in missing else None
    if annotation is int:
        return candidates[0]
    takes_several = kind.__module__.startswith('mmskin.') or 'in_index' in options
    if takes_several or isinstance(options['in_channels'].default, tuple | list):
        candidates.reverse()
    for candidate in candidates if len(candidates) > 1 else ():
        try:
            with torch.random.fork_rng(devices=[]):
                MODELS.build(candidate)
        except (AssertionError, IndexError, TypeError, ValueError):
            continue
        return candidate
    return candidates[0]


@torch.no_grad()
def _with_pooling(task: dict[str, Any], maps: Maps, size: int) -> dict[str, Any]:
    """The config of a task with global average pooling, if another package's head needs it and there is no neck."""
    head, neck = task.get('head'), task.get('neck') or {}
    if not isinstance(head, Mapping) or 'type' not in task:
        return task
    package = MODELS.get(head['type']).__module__.partition('.')[0]
    if package == 'mmskin':
        return task
    with torch.random.fork_rng(devices=[]):
        modes = [MODELS.build(dict(head)).train(mode) for mode in ((False, True) if task.get('losses') else (False,))]
    ndim = 4 if getattr(MODELS.get(task['type']), 'kind', '') == 'masks' else 2
    stride = max(stride for _, stride in maps)
    for side in sorted({4 * stride, max(4 * stride, -(-size // stride) * stride)}):  # a small image, and a real one
        given = _outputs(neck, maps, side)
        reason = _why_not(modes, given, ndim)
        if reason is None:
            return task
        shapes = ', '.join('x'.join(map(str, feat.shape[1:])) for feat in given)
        what = f'{shapes}, which ' + (f'{neck["type"]} gives' if neck else 'is what its branch gives')
        if ndim == 2 and all(feat.ndim == 4 for feat in given):
            reason = _why_not(modes, tuple(feat.mean(dim=(2, 3)) for feat in given), ndim)
            if reason is None and not neck:
                return {**task, 'neck': dict(type='mmpretrain.GlobalAveragePooling')}
            if reason is None:
                raise Mistake(
                    f'{head["type"]} reads vectors, and its neck {neck["type"]} gives maps; leave the neck out'
                )
            what += ', nor with the means of the maps'
    if package in ('mmpretrain', 'mmseg'):  # a user's own may do with real images alone
        near = 'mmpretrain.LinearClsHead or ClsHead' if ndim == 2 else 'other out_blocks, or another head'
        raise Mistake(f'{head["type"]} cannot work with {what} ({reason}); take {near}')
    return task


def _why_not(heads: Sequence[nn.Module], feats: tuple[Tensor, ...], ndim: int) -> str | None:
    """Why one of ``heads`` gives no logits of so many axes for two images; None if all do."""
    for head in heads:
        try:
            with torch.random.fork_rng(devices=[]):  # dropout draws
                logits = head(feats)
        except Exception as error:  # of any package, whatever it raises
            return f'{type(error).__name__}: {error}'.splitlines()[0]
        if not isinstance(logits, Tensor):
            return f'it gives a {type(logits).__name__} in place of logits'
        if logits.ndim != ndim or len(logits) != 2:
            return f'it gives {"x".join(map(str, logits.shape))} for two images'
    return None


@torch.no_grad()
def _outputs(neck: Mapping[str, Any], maps: Maps, side: int) -> tuple[Tensor, ...]:
    """Blank maps of two images of ``side``, or what ``neck`` makes of them if there is one: maps or vectors."""
    blank = tuple(torch.zeros(2, width, side // stride, side // stride) for width, stride in maps)
    if not neck:
        return blank
    with torch.random.fork_rng(devices=[]):
        module: nn.Module = MODELS.build(dict(neck)).eval()
    outputs = module(blank)
    return tuple(outputs) if isinstance(outputs, tuple | list) else (outputs,)
