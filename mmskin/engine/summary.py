"""What a config's network looks like, and what each of its stages trains."""

from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmskin.config import innermost_datasets
from mmskin.engine.stages import stage_configs
from mmskin.errors import Mistake, refusals
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.weights import without_lookups
from mmskin.registry import MODELS


def summarize(cfg: Config, size: int | None = None) -> str:
    """Tables of the last stage's blocks and of all stages, as text.

    Args:
        cfg: A config of a ``MultiTaskModel``.
        size: The image's side in pixels; the pipeline's by default.

    Raises:
        Mistake: if the network cannot be built or does not take the image, or no size is to be found.
    """
    size = input_size(cfg) if size is None else size
    if size < 1:
        raise Mistake(f'--size {size}: give a number of pixels from 1')
    init_default_scope(cfg.get('default_scope', 'mmskin'))
    stages = []
    for stage in stage_configs(cfg):
        model = MODELS.build(without_lookups(stage.model))
        if not isinstance(model, MultiTaskModel):
            raise Mistake(f'{cfg.filename}: a {type(model).__name__} has no blocks to show, only a MultiTaskModel has')
        stages.append((stage.get('stage', 'the only one'), model, *run_once(model, size)))
    _, model, shapes, flops = stages[-1]
    sites = {site: key for key, site in model.sites.items()}
    paths = {id(module): path for path, module in model.named_modules()}
    blocks = [['', 'gives', 'parameters', 'MFLOPs']]
    for path, chain in model.backbone.named_modules():
        if isinstance(chain, BlockChain):
            blocks.append([path.replace('branches.', 'branch '), '', '', ''])
            marks = {name: ' *' if name in sites and path != 'shared' else '' for name in chain.names}
            blocks += [_row(f'  {k}{mark}', chain[k], paths[id(chain[k])], shapes, flops) for k, mark in marks.items()]
    blocks += [['passing (*)', '', '', '']] if sites else []
    for site, key in sites.items():
        title = f'  {site} {type(model.passing[key]).__name__}'
        blocks.append(_row(title, model.passing[key], f'passing.{key}', {}, flops))
    blocks.append(['heads', '', '', ''])
    for name, task in model.tasks.items():
        title = f'  {name} {type(task.head).__name__}'
        blocks.append(_row(title, task, f'tasks.{name}.head', shapes, flops, f'tasks.{name}'))
    rows = [['stage', 'tasks', 'passing', 'trained', 'held', 'GFLOPs']]
    for name, model, _, flops in stages:
        counts = [f'{number_of(model, trained):,}' for trained in (True, False)]
        passing = ', '.join(model.routes()) or 'no'
        rows.append([name, ', '.join(model.active_tasks), passing, *counts, f'{flops[""] / 1e9:.2f}'])
    title = f'{cfg.filename}: an image of {size} x {size} pixels'
    return '\n'.join(
        [title, '', *columns(blocks), '', *columns(rows), '', 'FLOPs: a multiplication and an addition are two.']
    )


def input_size(cfg: Config) -> int:
    """The side of what the network gets, as the pipelines say it."""
    for loader in (cfg.get('test_dataloader'), cfg.get('train_dataloader')):
        for dataset in innermost_datasets(loader) if loader else ():
            sizes = [step.get('size') for step in dataset.get('pipeline', ())]
            if numbers := [size for size in sizes if isinstance(size, int)]:
                return numbers[-1]
    raise Mistake(f'{cfg.filename}: its pipelines state no size; give --size')


@torch.no_grad()
def run_once(model: nn.Module, size: int) -> tuple[dict[str, Any], dict[str, int]]:
    """What each module gives for one image, and its FLOPs, by its path."""
    shapes: dict[str, Any] = {}

    def note(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[path] = tuple(output.shape[1:])

    handles = [module.register_forward_hook(partial(note, path)) for path, module in model.named_modules()]
    with refusals(f'the network with an image of {size} x {size} pixels'), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    name = type(model).__name__
    counts = {path.removeprefix(f'{name}.'): sum(flops.values()) for path, flops in counter.get_flop_counts().items()}
    return shapes, {**counts, '': counter.get_total_flops()}


def _row(
    title: str, module: nn.Module, path: str, shapes: dict[str, Any], flops: dict[str, int], whole: str = ''
) -> list[str]:
    shape = ' x '.join(map(str, shapes.get(path) or shapes.get(whole, ())))
    count = max(flops.get(path, 0), flops.get(whole, 0) if whole else 0)
    return [title, shape, f'{number_of(module):,}', f'{count / 1e6:,.1f}']


def number_of(module: nn.Module, trained: bool | None = None) -> int:
    """The parameters of a module, or those of them that are trained, or that are held."""
    return sum(weight.numel() for weight in module.parameters() if trained in (None, weight.requires_grad))


def columns(rows: list[list[str]]) -> list[str]:
    """Lines with the cells below each other: text to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_number = [all(cell[:1].isdigit() or not cell for cell in column[1:]) for column in zip(*rows, strict=True)]
    return [
        '  '.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in rows
    ]
