"""What a table of 400,000 images takes to open, what a prediction of them holds, and what a cache of images saves.

    python speed/many_images.py --count 400000
    python speed/many_images.py --count 400000 --predict 3000 --model lite0.onnx
    python speed/many_images.py --cache ../shared/data/isic2017_native --repeats 15

The rows name a few small files again and again. Each figure is of a process of its own that has imported all, so that
memory is what the measured thing adds to it: its peak, and what is left.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from mmengine.registry import init_default_scope

from mmskin.datasets.cache import write_cache
from mmskin.datasets.csv_dataset import CsvLesionDataset
from mmskin.datasets.isic2017 import ISIC2017Dataset

FILES = 64


def write_table(root: Path, count: int, side: int) -> Path:
    """A table of ``count`` rows over a few images and masks of ``side`` pixels."""
    rng = np.random.default_rng(0)
    for folder in ('images', 'masks'):
        (root / folder).mkdir()
    for index in range(FILES):
        cv2.imwrite(str(root / f'images/{index:03}.jpg'), rng.integers(0, 256, (side, side, 3), np.uint8))
        cv2.imwrite(str(root / f'masks/{index:03}.png'), 255 * rng.integers(0, 2, (side, side), np.uint8))
    with (root / 'table.csv').open('w') as file:
        file.write('image_id,image,mask,diagnosis,age,sex,site,split\n')
        for index in range(count):
            name, diagnosis = f'{index % FILES:03}', ('melanoma', 'nevus', 'seborrheic_keratosis')[index % 3]
            told = f'{index % 90},{("male", "female")[index % 2]},anterior torso,train'
            file.write(f'ISIC_{index:07},images/{name}.jpg,masks/{name}.png,{diagnosis},{told}\n')
    return root / 'table.csv'


def opened(table: Path) -> CsvLesionDataset:
    """The data set, as a training opens it."""
    columns = dict(id_column='image_id', mask_column='mask', label_column='diagnosis')
    return CsvLesionDataset(table, split='train', inputs=dict(age='age', sex='sex'), **columns)


def rows_read(table: Path) -> None:
    """All rows, one after the other."""
    found = opened(table)
    for index in range(len(found)):
        found.get_data_info(index)


def resident(process: int | str = 'self') -> float:
    """MB of a process in memory, without the pages of files, which all processes share."""
    for line in Path(f'/proc/{process}/status').read_text().splitlines():
        if line.startswith('RssAnon'):
            return int(line.split()[1]) / 1e3
    raise RuntimeError('/proc/PID/status has no RssAnon; this is measured on Linux')


def measured(what: Callable, *args: object) -> tuple[float, float, float, float]:
    """Seconds, CPU seconds, and MB at the peak and at the end, that a call takes in a process of its own."""
    receiver, sender = multiprocessing.get_context('fork').Pipe(duplex=False)

    def run() -> None:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu, before = time.perf_counter(), time.process_time(), resident()
        kept = what(*args)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) / 1e3
        sender.send((seconds, cpu_seconds, peak, resident() - before))
        del kept

    process = multiprocessing.get_context('fork').Process(target=run)
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def predicted(count: int, most: int, side: int, model: str) -> None:
    """MB of `mmskin predict` on a folder of ``count`` files, as it has started, and up to ``most`` images on."""
    with TemporaryDirectory() as name:
        folder, out = Path(name, 'photos'), Path(name, 'out')
        folder.mkdir()
        write_table(Path(name), 1, side)
        files = sorted(Path(name, 'images').iterdir())
        for index in range(count):
            os.link(files[index % FILES], folder / f'ISIC_{index:07}.jpg')
        command = ['predict', str(folder), '--out-dir', str(out), '--coco', f'{name}/coco.json', '--no-tta']
        command += ['--json', f'{name}/lines.json', '--contours', '--model', model]
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-m', 'mmskin', *command], stdout=subprocess.DEVNULL
        )
        print(f'| of {count:,} images predicted | MB | s |\n|---|---|---|')
        for done in [1, *range(most // 6, most + 1, most // 6)]:
            while rows_of(out / 'predictions.csv') < done:
                if process.poll() is not None:
                    sys.exit('mmskin predict ended early')
                time.sleep(0.05)
            passed = time.perf_counter() - start
            print(f'| {done} | {resident(process.pid):.0f} | {passed:.0f} |', flush=True)
        process.send_signal(signal.SIGINT)
        process.wait()
        images = json.loads(Path(name, 'coco.json').read_text())['images']
        print(f'after an interruption, {len(images)} images are in the file of COCO')


def rows_of(table: Path) -> int:
    """How many rows a table has below its first one."""
    return table.read_bytes().count(b'\n') - 1 if table.exists() else 0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=400_000, help='rows of the table')
    parser.add_argument('--side', type=int, default=32, help='pixels of the files')
    parser.add_argument('--cache', metavar='DATA_ROOT', help="compare a cache with the files of a folder's val split")
    parser.add_argument('--repeats', type=int, default=7, help='of that comparison')
    parser.add_argument('--size', type=int, default=192, help='of its samples, in pixels')
    parser.add_argument(
        '--predict', type=int, metavar='IMAGES', help='predict for so many of a folder of --count files'
    )
    parser.add_argument('--model', default='lite0_isic2017', help='that predicts')
    args = parser.parse_args()
    if args.predict:
        predicted(args.count, args.predict, args.side, args.model)
        return
    if args.cache:
        compare_cache(args.cache, args.repeats, args.size)
        return
    with TemporaryDirectory() as folder:
        os.environ['XDG_CACHE_HOME'] = f'{folder}/cache'
        table = write_table(Path(folder), args.count, args.side)
        opened(write_table_head(table))  # what is imported at first use
        print(f'| {args.count:,} rows | s | CPU s | MB at the peak | MB kept |\n|---|---|---|---|---|')
        for name, what in (
            ('opened for the first time', opened),
            ('opened again, as by another rank', opened),
            ('opened and every row read', rows_read),
        ):
            print(f'| {name} | ' + ' | '.join(f'{figure:.2f}' for figure in measured(what, table)) + ' |', flush=True)
        print(f'{len(pickle.dumps(opened(table)))} bytes are sent to a worker that is spawned')


def compare_cache(root: str, repeats: int, size: int) -> None:
    """CPU milliseconds of a training sample, from files and from a cache in turns: medians over repeats."""
    init_default_scope('mmskin')
    cv2.setNumThreads(1)
    pipeline = [
        dict(type='LoadImage', size=size, smallest_crop=0.8),
        dict(type='LoadMask'),
        *(dict(type=name) for name in ('RandomWarp', 'GaussianNoise', 'PackTaskSample')),
    ]
    options = dict(split='val', pipeline=pipeline, partial_labels=True)
    with TemporaryDirectory() as folder:
        plain = ISIC2017Dataset(root, **options)
        for line in write_cache([plain], folder):
            print(line)
        stored = sum(file.stat().st_size for file in Path(folder).rglob('*.arrow')) / len(plain)
        kinds = {'files': plain, 'cache': ISIC2017Dataset(root, cache=folder, **options)}
        spent: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(repeats + 1):
            for name, dataset in kinds.items():
                start = time.process_time()
                for index in range(len(dataset)):
                    dataset[index]
                spent[name].append(1e3 * (time.process_time() - start) / len(dataset))
    files, cached = (float(np.median(spent[name][1:])) for name in kinds)
    print(f'to {size} pixels: {files:.2f} ms from files, {cached:.2f} ms from the cache, ratio {cached / files:.3f}')
    print(f'{stored / 1e3:.0f} kB an image')


def write_table_head(table: Path) -> Path:
    """The first rows of a table, as another one."""
    head = table.with_name('head.csv')
    with table.open() as rows:
        head.write_text(''.join(next(rows) for _ in range(10)))
    return head


if __name__ == '__main__':
    main()
