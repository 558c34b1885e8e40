"""Where there is a GPU: rates of training and prediction by number format, layout and compiler, and where it waits.

    python speed/gpu.py [--batch 64] [--size 192] [--steps 30] [--csv speed/results]
    python speed/gpu.py --batch 2 --size 64 --steps 1 --no-compile      # on a CPU, to see that it runs

Images a second of the joint network on EfficientNet-Lite0 with passing, from random weights: the network's own training
step on a batch that is in memory already (the most that a data loader could feed), a bare loop, and SMP's DeepLabV3+,
if it is installed; predictions likewise. `waits` is the share of a training step in which the GPU has nothing to do,
by torch.profiler: kernels that are too short for the CPU to queue, not the data. What fails on a machine says so.
"""

import argparse
import time
from collections.abc import Callable
from datetime import date
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mmskin.config import load_config
from mmskin.errors import in_one_line
from mmskin.files import write_csv
from mmskin.models.weights import without_lookups
from mmskin.registry import MODELS

ROOT = Path(__file__).parents[1]
FORMATS = {'fp32': None, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def networks() -> dict[str, nn.Module]:
    """Networks that give logits by task for images, from random weights."""
    init_default_scope('mmskin')
    found: dict[str, nn.Module] = {}
    cfg = load_config(ROOT / 'configs/fpm/lite0_isic2017.py')
    found['mmskin'] = MODELS.build(without_lookups(cfg.model))
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        print(f'SMP: left out, {error}')
    else:
        found['SMP'] = Named(
            smp.DeepLabV3Plus('tu-tf_efficientnet_lite0', encoder_weights=None, classes=1, aux_params={'classes': 3})
        )
    return found


class Named(nn.Module):
    """SMP's answers by task."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits by task."""
        seg, cls = self.network(images)
        return {'cls': cls, 'seg': seg}


class Bench:
    """One network on one device, in one format, layout and with or without the compiler."""

    def __init__(self, network: nn.Module, way: tuple[str, bool, bool], args: argparse.Namespace) -> None:
        form, last, compiled = way
        self.device, self.dtype, self.steps = torch.device(args.device), FORMATS[form], args.steps
        layout = torch.channels_last if last else torch.contiguous_format
        self.network = network.to(self.device, memory_format=layout)
        self.call: Callable = torch.compile(self.network) if compiled else self.network
        random = torch.Generator().manual_seed(0)
        shape = (args.batch, 3, args.size, args.size)
        self.images = torch.rand(shape, generator=random).to(self.device, memory_format=layout)
        self.labels = torch.randint(3, (args.batch,), generator=random).to(self.device)
        self.masks = torch.randint(2, (args.batch, 1, args.size, args.size), generator=random).float().to(self.device)
        config = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
        self.optimizer = build_optim_wrapper(self.network, config).optimizer
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=form == 'fp16')

    def logits(self) -> dict[str, Tensor]:
        """The network's answers."""
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            return self.call(self.images)

    def train(self) -> None:
        """One step."""
        found = self.logits()
        seg = F.interpolate(found['seg'].float(), self.masks.shape[2:], mode='bilinear', align_corners=False)
        loss = F.cross_entropy(found['cls'].float(), self.labels) + F.binary_cross_entropy_with_logits(seg, self.masks)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()

    @torch.inference_mode()
    def predict(self) -> None:
        """One batch."""
        self.logits()

    def rate(self, run: Callable[[], None]) -> float:
        """Images a second."""
        for _ in range(3):
            run()
        self.finish()
        start = time.perf_counter()
        for _ in range(self.steps):
            run()
        self.finish()
        return self.steps * len(self.images) / (time.perf_counter() - start)

    def finish(self) -> None:
        """Wait for the device."""
        if self.device.type == 'cuda':
            torch.cuda.synchronize()

    def waits(self) -> float | None:
        """The share of a training step in which a GPU has nothing to do."""
        if self.device.type != 'cuda':
            return None
        kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds) as profiler:
            start = time.perf_counter()
            for _ in range(5):
                self.train()
            self.finish()
            passed = time.perf_counter() - start
        busy = sum(one.self_device_time_total for one in profiler.key_averages()) / 1e6
        return max(0.0, 1 - busy / passed)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--size', type=int, default=192)
    parser.add_argument('--steps', type=int, default=30)
    parser.add_argument('--formats', nargs='+', choices=FORMATS, default=[*FORMATS])
    parser.add_argument('--compile', action=argparse.BooleanOptionalAction, default=True, help='try torch.compile, too')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--csv', type=Path, metavar='FOLDER', help='keep the table here, by date')
    args = parser.parse_args()
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else 'a CPU: these are no figures of a GPU'
    print(f'{args.batch} images of {args.size} pixels on {where}, torch {torch.__version__}')
    print('| network | format | layout | compiled | training, images/s | prediction, images/s | waits |')
    print('|---|---|---|---|---|---|---|')
    rows = []
    for form, last, compiled in product(args.formats, (False, True), (False, True) if args.compile else (False,)):
        for name, network in networks().items():
            way = [name, form, 'channels last' if last else 'contiguous', 'yes' if compiled else 'no']
            try:
                bench = Bench(network, (form, last, compiled), args)
                waits = None
                network.train()
                train = f'{bench.rate(bench.train):.1f}'
                waits = bench.waits()
                network.eval()
                figures = [train, f'{bench.rate(bench.predict):.1f}', '' if waits is None else f'{waits:.2f}']
            except Exception as error:  # of many kinds: no compiler, no such format, not enough memory
                figures = ['', in_one_line(error)[:60], '']
            rows.append([*way, *figures])
            print(f'| {" | ".join(rows[-1])} |', flush=True)
            torch.compiler.reset()
    if args.csv:
        head = ('network', 'format', 'layout', 'compiled', 'training', 'prediction', 'waits')
        write_csv(args.csv / f'{date.today()}_gpu.csv', [head, *rows])


if __name__ == '__main__':
    main()
