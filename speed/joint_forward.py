"""One joint forward against the two base networks one after the other, alternating in one run.

    python speed/joint_forward.py [--repeats 15] [--size 233] [--batch 1] [--device cpu]

ResNet-101, random weights, no heads on either side. Joint: split after layer3.10, gated passing at layer3.22,
classification at the network's own stride, segmentation at 16. Base: the same two networks without shared layers.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from mmskin.models.backbones.split import SplitBackbone
from mmskin.registry import MODELS

CHAIN = {'type': 'TimmChain', 'model': 'resnet101'}
BRANCHES = {'cls': {}, 'seg': {'output_stride': 16}}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--size', type=int, default=233)
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


def build(split_after: str | None, *tasks: str) -> SplitBackbone:
    """A network for ``tasks``."""
    return SplitBackbone(CHAIN, split_after, {task: BRANCHES[task] for task in tasks}).eval()


def seconds(run: Callable[[], object], device: str) -> float:
    """Wall clock of one run."""
    start = time.perf_counter()
    run()
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def passing(channels: int) -> nn.Module:
    """Gated passing between the two tasks at a block with ``channels`` in and out."""
    widths = dict.fromkeys(BRANCHES, channels)
    cfg = {'type': 'GatedFeaturePassing', 'in_channels': widths, 'out_channels': widths}
    return MODELS.build(cfg).eval()


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    args = parse_args()
    networks = build('layer3.10', *BRANCHES), build(None, 'cls'), build(None, 'seg')
    joint, cls, seg = (network.to(args.device) for network in networks)
    sites = {'layer3.22': passing(joint.channels_out('layer3.22')).to(args.device)}
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    runs = {
        'joint': lambda: joint(images, ['cls', 'seg'], sites),
        'cls, then seg': lambda: (cls(images, ['cls']), seg(images, ['seg'])),
    }
    for run in [*runs.values()] * 3:
        seconds(run, args.device)
    times = {name: [] for name in runs}
    for repeat in range(args.repeats):
        for name in sorted(runs, reverse=repeat % 2 == 1):
            times[name].append(seconds(runs[name], args.device))
    report(times, args)


def report(times: dict[str, list[float]], args: argparse.Namespace) -> None:
    """Print the table and the ratios."""
    print(f'{args.batch} x 3 x {args.size} x {args.size} on {args.device}, {torch.get_num_threads()} threads')
    print('| network | median ms | fastest ms | slowest ms |\n|---|---|---|---|')
    for name, values in times.items():
        print(f'| {name} | {" | ".join(f"{1000 * f(values):.1f}" for f in (median, min, max))} |')
    for statistic, word in ((median, 'medians'), (min, 'fastest')):
        joint, base = (statistic(values) for values in times.values())
        print(f'ratio of {word}: {joint / base:.3f}')
    print('wanted: at most 0.85; by operations alone: 0.80')


if __name__ == '__main__':
    main()
