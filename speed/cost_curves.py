"""What a training step costs, by images, classes, tasks, passing sites and processes.

    python speed/cost_curves.py [--size 64] [--repeats 3] [--csv speed/results]

ResNet-18 from random weights, split after layer2.1, one thread; unless varied, 8 images of --size pixels, 3 classes,
a task that names and one that outlines, no passing, one process. Each point is a process of its own, forked from one
that has imported everything: CPU time of its steps (the median), and the highest memory above what that one had.
`processes` train together by gloo with 8 images each: CPU time and memory of one of them.
"""

import argparse
import os
import resource
import socket
import time
from collections.abc import Callable, Mapping
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmskin.files import write_csv
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

USUAL = {'images': 8, 'classes': 3, 'tasks': 2, 'sites': 0, 'processes': 1}
CURVES: Mapping[str, tuple[int, ...]] = {
    'images': (2, 8, 32),
    'classes': (3, 1000, 10_000),
    'tasks': (1, 2, 4),
    'sites': (0, 1, 2, 4),
    'processes': (1, 2),
}
SITES = ('layer4.1', 'layer4.0', 'layer3.1', 'layer3.0')


def network(classes: int, tasks: int, sites: int) -> torch.nn.Module:
    """Tasks that name, the last of several outlines; and feature passing between all of them."""
    init_default_scope('mmskin')
    names = [f'task{number}' for number in range(tasks)]
    name = dict(type='Classification', head=dict(type='ClsHead', in_channels=512, num_classes=classes))
    found = {one: dict(name, losses=dict(ce=dict(type='CrossEntropy'))) for one in names}
    if tasks > 1:
        head = dict(type='ASPPHead', in_channels=512, rates=(1, 2, 3, 4))
        found[names[-1]] = dict(type='Segmentation', head=head, losses=dict(dice=dict(type='DiceLoss')))
    backbone = dict(
        type='SplitBackbone',
        chain=dict(type='TimmChain', model='resnet18', weights=None),
        split_after='layer2.1',
        branches={one: dict(output_stride=16) if one == names[-1] and tasks > 1 else {} for one in names},
    )
    passing = {site: dict(type='GatedFeaturePassing') for site in SITES[:sites]}
    preprocessor = dict(type='mmengine.ImgDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3)
    cfg = dict(type='MultiTaskModel', data_preprocessor=preprocessor, backbone=backbone, tasks=found, passing=passing)
    return MODELS.build(cfg).train()


def batch(images: int, classes: int, size: int) -> dict[str, list]:
    """Random images with random answers."""
    random = torch.Generator().manual_seed(0)
    pixels = [torch.randint(256, (3, size, size), generator=random, dtype=torch.uint8) for _ in range(images)]
    samples = []
    for number in range(images):
        sample = TaskSample(metainfo=dict(image_id=str(number), ori_shape=(size,) * 2, img_shape=(size,) * 2))
        sample.gt_label = torch.tensor([number % classes])
        mask = torch.randint(2, (1, size, size), generator=random, dtype=torch.uint8)
        sample.set_field(PixelData(data=mask), 'gt_sem_seg')
        samples.append(sample)
    return dict(inputs=pixels, data_samples=samples)


def steps(point: Mapping[str, int], args: argparse.Namespace, rank: int, port: int) -> list[float]:
    """CPU seconds of each training step."""
    model: Any = network(point['classes'], point['tasks'], point['sites'])
    if point['processes'] > 1:
        address = f'tcp://127.0.0.1:{port}'
        torch.distributed.init_process_group('gloo', init_method=address, rank=rank, world_size=point['processes'])
        model = MMDistributedDataParallel(model)
    wrapper = build_optim_wrapper(model, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4)))
    data = batch(point['images'], point['classes'], args.size)
    return timed(partial(model.train_step, data, wrapper), args.repeats)


def timed(run: Callable[[], object], repeats: int) -> list[float]:
    """CPU seconds of each call, after one more."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return times[1:]


def measure(curve: str, value: int, args: argparse.Namespace) -> tuple[float, float]:
    """CPU milliseconds (the median), and the highest MB above those before."""
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        port = one.getsockname()[1]
    point = {**USUAL, curve: value}
    context = get_context('fork')
    ends = []

    def work(rank: int, end: Any) -> None:
        before = resident()
        times = steps(point, args, rank, port)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        end.send((1000 * median(times), peak - before))
        end.close()
        os._exit(0)  # a group of processes would wait for the others

    for rank in range(point['processes']):
        here, there = context.Pipe(duplex=False)
        context.Process(target=work, args=(rank, there)).start()
        there.close()
        ends.append(here)
    found = [end.recv() for end in ends]
    return found[0]


def resident() -> float:
    """MB of the process in memory."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=int, default=64, help='of the images, in pixels')
    parser.add_argument('--repeats', type=int, default=3, help='steps of each point')
    parser.add_argument('--csv', type=Path, metavar='FOLDER', help='keep the table here, by date')
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print('| varied | | CPU ms | MB |\n|---|---|---|---|')
    for curve, values in CURVES.items():
        for value in values:
            milliseconds, megabytes = measure(curve, value, args)
            rows.append((curve, value, f'{milliseconds:.1f}', f'{megabytes:.0f}'))
            print('| {} | {} | {} | {} |'.format(*rows[-1]), flush=True)
            if args.csv:
                write_csv(args.csv / f'{date.today()}_cost_curves.csv', [('varied', 'value', 'cpu_ms', 'mb'), *rows])


if __name__ == '__main__':
    main()
