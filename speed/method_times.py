"""What each method of a suite costs compared with its baseline: forward and training step, in turns in one run.

    python speed/method_times.py suites/operators.py [--repeats 15] [--batch 8] [--device cpu]

Networks have random weights, and images and masks are noise of the suite's size. A forward is one image through the
network without gradient; a step is a batch through forward, losses, backward and optimizer. Each number is the median
over repeats of the ratio to the baseline's time in the same round, which tells more than times on a shared machine.
"""

import argparse
import logging
from collections.abc import Callable
from statistics import median

import torch
from joint_forward import seconds
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmskin.benchmark.suite import Method, Suite, read_suite
from mmskin.config import load_config
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

Runs = dict[str, Callable[[], object]]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('suite')
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


def config_of(suite: Suite, method: Method) -> Config:
    """A method's config with random weights."""
    options = {**suite.options, **method.options, 'model.backbone.chain.weights': None}
    return load_config(method.config, options=options)


def noise(size: int, count: int, device: str) -> dict:
    """A batch of ``count`` images with labels and masks."""
    samples = [
        TaskSample(
            gt_label=torch.tensor([number % 3], device=device),
            gt_sem_seg=PixelData(data=torch.randint(2, (1, size, size), dtype=torch.uint8, device=device)),
        )
        for number in range(count)
    ]
    images = [torch.randint(256, (3, size, size), dtype=torch.uint8, device=device) for _ in samples]
    return {'inputs': images, 'data_samples': samples}


def build(cfg: Config, device: str) -> BaseModel:
    """A method's network."""
    init_default_scope('mmskin')
    return MODELS.build(cfg.model).to(device, memory_format=torch.channels_last)


def runs_of(cfg: Config, args: argparse.Namespace) -> Runs:
    """What is measured of one method."""
    size = cfg.train_dataloader.dataset.pipeline[0].size
    training, network = build(cfg, args.device).train(), build(cfg, args.device).eval()
    optimizer = build_optim_wrapper(training, cfg.optim_wrapper)
    batch = noise(size, args.batch, args.device)
    image = torch.randn(1, 3, size, size, device=args.device).to(memory_format=torch.channels_last)
    return {
        'forward': torch.inference_mode()(lambda: network(image)),
        'training step': lambda: training.train_step(batch, optimizer),
    }


def main() -> None:
    """Measure and print."""
    args = parse_args()
    logging.disable(logging.WARNING)
    suite = read_suite(args.suite)
    if suite.baseline is None:
        raise SystemExit(f'{args.suite}: has no baseline; name the method that times are compared with')
    methods = {method.name: runs_of(config_of(suite, method), args) for method in suite.methods}
    print(f'batch of {args.batch} on {args.device}, {torch.get_num_threads()} threads, {args.repeats} rounds')
    table = {kind: ratios(methods, suite.baseline, kind, args) for kind in ('forward', 'training step')}
    print(f'| method | {" | ".join(table)} |\n|---|---|---|')
    for name in methods:
        print(f'| {name} | {" | ".join(f"{found[name]:.2f}" for found in table.values())} |')


def ratios(methods: dict[str, Runs], baseline: str, kind: str, args: argparse.Namespace) -> dict[str, float]:
    """Each method's time as a multiple of the baseline's."""
    rounds = [
        {name: seconds(runs[kind], args.device) for name, runs in methods.items()} for _ in range(args.repeats + 2)
    ]
    return {name: median(one[name] / one[baseline] for one in rounds[2:]) for name in methods}


if __name__ == '__main__':
    main()
