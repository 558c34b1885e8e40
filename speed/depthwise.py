"""A training step with mmskin's gradients of depth-wise convolutions against one with torch's, in turns in one run.

    python speed/depthwise.py [--steps 7] [--size 128] [--batch 32]

EfficientNet-Lite0 from random weights, joint stage with passing, plain AdamW. Times are of this process alone.
"""

import argparse
import time
from statistics import median

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import nn

from mmskin.config import load_config
from mmskin.models.convolutions import DepthwiseConv2d
from mmskin.models.weights import without_lookups
from mmskin.registry import MODELS
from mmskin.structures import TaskSample


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=7)
    parser.add_argument('--size', type=int, default=128)
    parser.add_argument('--batch', type=int, default=32)
    return parser.parse_args()


def made_batch(size: int, count: int) -> dict:
    """Noise with labels."""
    samples = []
    for number in range(count):
        mask = PixelData(data=(torch.rand(1, size, size) > 0.5).long())
        sample = TaskSample(gt_label=torch.tensor([number % 3]), gt_sem_seg=mask)
        sample.set_metainfo(dict(img_shape=(size, size), ori_shape=(size, size)))
        samples.append(sample)
    return dict(inputs=[torch.randint(256, (3, size, size), dtype=torch.uint8) for _ in samples], data_samples=samples)


def main() -> None:
    """Measure and print."""
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    init_default_scope('mmskin')
    network = MODELS.build(without_lookups(load_config('configs/fpm/lite0_isic2017.py').model))
    network.to(memory_format=torch.channels_last).train()
    wrapper = OptimWrapper(torch.optim.AdamW(network.parameters(), lr=1e-4))
    batch = made_batch(args.size, args.batch)
    layers = [part for part in network.modules() if type(part) is DepthwiseConv2d]
    times: dict[type, list[float]] = {nn.Conv2d: [], DepthwiseConv2d: []}
    for _ in range(args.steps + 1):
        for kind, measured in times.items():
            for layer in layers:
                layer.__class__ = kind
            start = time.process_time()
            network.train_step(batch, wrapper)
            measured.append(time.process_time() - start)
    torchs, ours = (median(measured[1:]) for measured in times.values())  # the first warms up
    print(f'torch {torchs:.2f} s, mmskin {ours:.2f} s, ratio {ours / torchs:.2f}')


if __name__ == '__main__':
    main()
