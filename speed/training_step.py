"""A training step through the Runner against a bare PyTorch loop, same network and batch, alternating in one run.

    python speed/training_step.py [--steps 20] [--size 192] [--batch 16]

EfficientNet-Lite0 from random weights, joint stage with passing. The Runner's step takes a loaded batch through
preprocessing, forward, losses, backward, optimizer, schedulers and all hooks, logging among them; the bare one stacks
and normalises, runs forward, losses and backward, and steps its own optimizer.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from mmengine.runner import EpochBasedTrainLoop

from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.stages import build_runner
from mmskin.registry import LOOPS

CONFIG = Path(__file__).parents[1] / 'configs/fpm/lite0_isic2017.py'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--size', type=int, default=192)
    parser.add_argument('--batch', type=int, default=16)
    return parser.parse_args()


def bare_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: dict) -> None:
    """One step as a plain training script writes it."""
    images = (torch.stack(batch['inputs']).float() - 127.0) / 128.0
    samples = batch['data_samples']
    labels = torch.cat([sample.gt_label for sample in samples])
    masks = torch.stack([sample.gt_sem_seg.data for sample in samples]).float()
    logits = model(images)
    seg = F.interpolate(logits['seg'], masks.shape[2:], mode='bilinear', align_corners=False)
    loss = F.cross_entropy(logits['cls'], labels) + F.binary_cross_entropy_with_logits(seg, masks)
    probability = seg.sigmoid()
    loss = loss + 1 - 2 * (probability * masks).sum() / (probability.sum() + masks.sum())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


def seconds(run: Callable[[], object]) -> float:
    """Wall clock of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@LOOPS.register_module()
class AlternatingLoop(EpochBasedTrainLoop):
    """Runs each batch once through the Runner's own step and once through the bare one, and times both."""

    def run(self) -> torch.nn.Module:
        """Measure and print."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        model = self.runner.model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
        batch = next(iter(self.dataloader))
        runs = {'Runner': lambda: self.run_iter(0, batch), 'bare loop': lambda: bare_step(model, optimizer, batch)}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for step in range(self.runner.cfg.steps + 2):
            for name in sorted(runs, reverse=step % 2 == 1):
                times[name].append(seconds(runs[name]))
        report({name: values[2:] for name, values in times.items()})
        return model


def report(times: dict[str, list[float]]) -> None:
    """Print the table and the ratio."""
    print('| step | median ms | fastest ms | slowest ms |\n|---|---|---|---|')
    for name, values in times.items():
        print(f'| {name} | {1e3 * median(values):.1f} | {1e3 * min(values):.1f} | {1e3 * max(values):.1f} |')
    ratios = [a / b for a, b in zip(times['Runner'], times['bare loop'], strict=True)]
    fastest = min(times['Runner']) / min(times['bare loop'])
    print(f'ratio Runner / bare loop: median of pairs {median(ratios):.3f}, of fastest {fastest:.3f} (at most 1.05)')


def main() -> None:
    """Build the runner on a small synthetic set and let the loop measure."""
    args = parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / 'synthetic'
        SyntheticLesions().write(root, num_train=args.batch, num_val=3, num_test=3)
        options = {
            'model.backbone.chain.weights': None,
            'train_dataloader.batch_size': args.batch,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.pipeline.0.size': args.size,
            'train_cfg.type': 'AlternatingLoop',
            'train_cfg.by_epoch': None,
            'stages': None,
            'steps': args.steps,
        }
        cfg = load_config(CONFIG, str(Path(folder) / 'work'), str(root), options=options)
        del cfg.train_cfg['by_epoch']
        build_runner(cfg).train()


if __name__ == '__main__':
    main()
