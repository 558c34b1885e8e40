"""The small networks and batches that contracts run."""

from collections.abc import Collection
from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.models.backbones.chain import BlockChain
from mmskin.models.multitask import MultiTaskModel
from mmskin.registry import MODELS
from mmskin.structures import TaskSample
from mmskin.testing.contract import random

__all__ = ['BATCHES', 'LinearNetwork', 'TASKS', 'TinyChain', 'batches', 'linear_network', 'tiny_batch', 'tiny_network']


class TinyChain(BlockChain):
    """Five blocks, as small as a network with a stride of 32 can be."""

    def __init__(self) -> None:
        shapes = {'stem': (3, 4, 4), 'a.0': (4, 6, 2), 'b.0': (6, 8, 2), 'b.1': (8, 10, 1), 'c.0': (10, 12, 2)}
        super().__init__({name: conv_block(*shape) for name, shape in shapes.items()})


def conv_block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A convolution, batch norm and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


def tiny_network(passing: dict | str, at_scales: bool = False, **options: Any) -> MultiTaskModel:
    """Classification and segmentation that split after the second block and pass features at the next two.

    Segmentation's maps are twice as large as classification's at both.

    Args:
        passing: Config of the operator, or of several by their sites.
        at_scales: One operator is at both blocks, and one in front of the decoders at their two levels, of which the
            diagnosis reads the coarser one.
        options: Others of ``MultiTaskModel``.
    """
    out_blocks = ['b.1', 'c.0'] if at_scales else ['c.0']
    branches = dict(cls=dict(out_blocks=out_blocks), seg=dict(out_blocks=out_blocks, output_stride=8))
    cls, seg = dict(type='ClsHead', in_channels=12), dict(type='ASPPHead', in_channels=12, rates=(1, 2))
    if at_scales:
        seg = dict(type='UNetHead', channels=4)
    sites = [('b.0', 'b.1'), ('decoder/32', 'decoder/16')] if at_scales else ['b.0', 'b.1']
    by_site = isinstance(passing, dict) and 'type' not in passing
    cfg = dict(
        type='MultiTaskModel',
        backbone=dict(type='SplitBackbone', chain=dict(type=TinyChain), split_after='a.0', branches=branches),
        tasks=dict(
            cls=dict(type='Classification', head=cls, losses=dict(ce=dict(type='CrossEntropy'))),
            seg=dict(type='Segmentation', head=seg, losses=dict(wce=dict(type='WeightedCrossEntropy'))),
        ),
        passing=passing if by_site else dict.fromkeys(sites, passing),
    )
    torch.manual_seed(0)
    return MODELS.build({**cfg, **options})


def tiny_batch(count: int = 2, size: tuple[int, int] = (65, 81)) -> tuple[Tensor, list[TaskSample]]:
    """Normalised images (N, 3, h, w) and samples with both labels."""
    generator = torch.Generator().manual_seed(0)
    samples = [TaskSample(metainfo=dict(image_id=f'{i}', img_shape=size, ori_shape=size)) for i in range(count)]
    for index, sample in enumerate(samples):
        sample.gt_label = torch.tensor([index % 3])
        sample.gt_sem_seg = PixelData(data=torch.randint(2, (1, *size), generator=generator, dtype=torch.uint8))
    return torch.randn(count, 3, *size, generator=generator), samples


TASKS = ('a', 'b', 'c')
BATCHES = 8


class LinearNetwork(nn.Module):
    """Three tasks on one shared layer; b's loss reads a's head as well, as it would after feature passing."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({'shared': nn.Sequential(nn.Linear(4, 5), nn.Tanh())})
        self.heads = nn.ModuleDict({task: nn.Linear(5, 2) for task in TASKS})

    def losses(
        self, images: Tensor, labelled: Collection[str] = TASKS, active: Collection[str] = TASKS
    ) -> dict[str, Tensor]:
        """The active tasks' mean squares of images (N, 4); without labels a connected zero, as of ``Task.loss``."""
        outputs = {task: head(self.backbone['shared'](images)) for task, head in self.heads.items()}
        outputs['b'] = outputs['b'] + 0.5 * outputs['a']
        values = {task: (outputs[task] - number).square().mean() for number, task in enumerate(TASKS, 1)}
        return {task: value if task in labelled else 0 * value for task, value in values.items() if task in active}


def linear_network() -> LinearNetwork:
    """The network with the same weights at every call."""
    torch.manual_seed(0)
    return LinearNetwork()


def batches() -> Tensor:
    """Eight batches of six images (8, 6, 4)."""
    return random(BATCHES, 6, 4, seed=1)
