"""Prediction, a training step and the start against other libraries', in turns in one process each: CPU time.

    mmskin export lite0_isic2017 --out lite0.onnx
    python speed/peers.py [--repeats 15] [--onnx lite0.onnx] [--csv speed/results]

1. Prediction for a 256-pixel JPEG, from the file to probabilities and a mask of the image's size: the model that
   ships, in torch, OpenVINO and as exported, from one view and from its two, and DeepLabV3+ of
   segmentation_models.pytorch (SMP) on the same backbone, with the plainest code around it.
2. A training step at 192 pixels: the joint network with passing, and SMP's, each with its losses and AdamW.
3. The start: `LesionInferencer()` in a new process, and what of it torch's import takes.

Ratios are to the first line of each table. `--csv` keeps them, by date. SMP needs pip install '.[smp]'.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from PIL import Image

from mmskin import LesionInferencer
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.files import write_csv
from mmskin.models.weights import without_lookups
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

ROOT = Path(__file__).parents[1]
STARTS = {
    'LesionInferencer()': 'from mmskin import LesionInferencer; LesionInferencer()',
    'import torch': 'import torch',
    'import torch, torchvision': 'import torch, torchvision',
}


def smp_network() -> torch.nn.Module:
    """DeepLabV3+ with a classification head, from random weights."""
    import segmentation_models_pytorch as smp

    return smp.DeepLabV3Plus(
        'tu-tf_efficientnet_lite0', encoder_weights=None, classes=1, aux_params={'classes': 3, 'dropout': 0.2}
    )


def in_turns(ways: dict[str, Callable[[], object]], repeats: int, warm: int = 2) -> dict[str, list[float]]:
    """CPU milliseconds of each way, in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-warm, repeats):
        for name in sorted(ways, reverse=repeat % 2 == 1):
            start = time.process_time()
            ways[name]()
            if repeat >= 0:
                times[name].append(1000 * (time.process_time() - start))
    return times


def prediction(folder: Path, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Ways to predict for one file."""
    path = folder / 'photo.jpg'
    Image.fromarray(SyntheticLesions(seed=1, shape=(256, 256)).sample('train', 0)[0]).save(path, quality=90)
    networks = {}
    for views, tta in (('one view', False), ('two views', True)):
        for device in ('cpu', 'openvino'):
            networks[f'mmskin, {views}, {device}'] = LesionInferencer(device=device, tta=tta)
        if args.onnx:
            networks[f'mmskin, {views}, ONNX Runtime'] = LesionInferencer(args.onnx, tta=tta)
    size = next(iter(networks.values())).load.size
    ways: dict[str, Callable[[], object]] = {name: partial(network, path) for name, network in networks.items()}
    network = smp_network().eval()

    @torch.inference_mode()
    def smp() -> object:
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        pixels = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
        logits, scores = network(torch.from_numpy((pixels - 127.0) / 128.0).permute(2, 0, 1)[None])
        outline = F.interpolate(logits, image.shape[:2], mode='bilinear', align_corners=False).sigmoid() > 0.5
        return scores.softmax(1).numpy(), outline.numpy()

    return {**ways, 'SMP DeepLabV3+, torch': smp}


def training(args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Ways to take a step on one batch."""
    init_default_scope('mmskin')
    cfg = load_config(ROOT / 'configs/fpm/lite0_isic2017.py')
    ours = MODELS.build(without_lookups(cfg.model)).train()
    wrapper = build_optim_wrapper(ours, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)))
    random = torch.Generator().manual_seed(0)
    images = [
        torch.randint(256, (3, args.size, args.size), generator=random, dtype=torch.uint8) for _ in range(args.batch)
    ]
    samples = []
    for number in range(args.batch):
        sample = TaskSample(metainfo=dict(image_id=str(number), ori_shape=(args.size,) * 2, img_shape=(args.size,) * 2))
        sample.gt_label = torch.tensor([number % 3])
        mask = torch.randint(2, (1, args.size, args.size), generator=random, dtype=torch.uint8)
        sample.set_field(PixelData(data=mask), 'gt_sem_seg')
        samples.append(sample)
    network = smp_network().train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    labels = torch.cat([sample.gt_label for sample in samples])
    masks = torch.stack([sample.gt_sem_seg.data for sample in samples]).float()

    def smp() -> None:
        logits, scores = network((torch.stack(images).float() - 127.0) / 128.0)
        overlap = logits.sigmoid()
        dice = 1 - 2 * (overlap * masks).sum() / (overlap.sum() + masks.sum())
        loss = F.cross_entropy(scores, labels) + F.binary_cross_entropy_with_logits(logits, masks) + dice
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    batch = dict(inputs=images, data_samples=samples)
    return {'mmskin, joint with passing': lambda: ours.train_step(batch, wrapper), 'SMP DeepLabV3+': smp}


def start(command: str) -> float:
    """CPU milliseconds of a new process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, '-W', 'ignore', '-c', command], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def report(title: str, times: dict[str, list[float]], folder: Path | None) -> None:
    """Print a table, and keep it."""
    first = median(next(iter(times.values())))
    rows = [(name, f'{median(values):.1f}', f'{median(values) / first:.2f}') for name, values in times.items()]
    print(f'| {title} | CPU ms, median of {len(next(iter(times.values())))} | ratio |\n|---|---|---|')
    for row in rows:
        print(f'| {" | ".join(row)} |', flush=True)
    if folder:
        name = f'{date.today()}_{title.split(",")[0].replace(" ", "_")}.csv'
        write_csv(folder / name, [('what', 'cpu_ms', 'ratio'), *rows])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--repeats', type=int, default=15)
    parser.add_argument('--onnx', help='the network that ships, as exported')
    parser.add_argument('--size', type=int, default=192, help='of the training step, in pixels')
    parser.add_argument('--batch', type=int, default=16, help='of it')
    parser.add_argument('--csv', type=Path, metavar='FOLDER', help='keep the tables here, by date')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ['OMP_NUM_THREADS'] = '1'  # of the new processes
    with TemporaryDirectory() as folder:
        times = in_turns(prediction(Path(folder), args), args.repeats)
        report('prediction, a file of 256 pixels', times, args.csv)
    times = in_turns(training(args), max(1, args.repeats // 3), warm=1)
    report(f'training step, {args.size} pixels, batch {args.batch}', times, args.csv)
    starts = {name: [start(command) for _ in range(max(1, args.repeats // 5))] for name, command in STARTS.items()}
    report('cold start, a new process', starts, args.csv)


if __name__ == '__main__':
    main()
