"""Loading native JPEGs at a reduced scale against loading them in full, alternating in one run.

    python speed/decoding.py --data-root ../shared/data/isic2017_native [--repeats 7] [--size 233]

Each loads the file, checks that it is whole, and shrinks to the network's input; one thread.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.transforms.loading import LoadImage, ResizeImage


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', default='data/isic2017')
    parser.add_argument('--split', default='val')
    parser.add_argument('--images', type=int, default=32, help='at most this many of the split')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--size', type=int, default=233)
    return parser.parse_args()


def load(path: str, size: int, reduced: bool) -> tuple[np.ndarray, tuple[int, int], float]:
    """The image at the input size, its original size, and the milliseconds that it took."""
    start = time.perf_counter()
    results = LoadImage(size if reduced else None)({'img_path': path})
    image = ResizeImage(size)(results)['img']
    return image, results['ori_shape'], 1000 * (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    args = parse_args()
    cv2.setNumThreads(1)
    dataset = ISIC2017Dataset(args.data_root, args.split, tasks=('seg',), partial_labels=True)
    paths = [dataset.get_data_info(index)['img_path'] for index in range(min(args.images, len(dataset)))]
    load(paths[0], args.size, reduced=True)
    print(f'to {args.size} x {args.size} pixels, medians of {args.repeats}, one thread')
    print('| image | width x height | full ms | reduced ms | ratio | mean difference |\n|---|---|---|---|---|---|')
    totals = np.sum([row(path, args) for path in paths], axis=0)
    print(f'all {len(paths)} images: full {totals[0]:.0f} ms, reduced {totals[1]:.0f} ms')
    print(f'ratio of the sums: {totals[0] / totals[1]:.2f}; wanted: at least 3')


def row(path: str, args: argparse.Namespace) -> tuple[float, float]:
    """Measure one image, print its line, and give the medians of full and reduced."""
    runs = [
        {reduced: load(path, args.size, reduced) for reduced in ((False, True), (True, False))[repeat % 2]}
        for repeat in range(args.repeats)
    ]
    full, reduced = (median(run[kind][2] for run in runs) for kind in (False, True))
    height, width = runs[0][True][1]
    difference = np.abs(runs[0][True][0].astype(float) - runs[0][False][0]).mean()
    name, ratio = Path(path).stem, full / reduced
    print(f'| {name} | {width} x {height} | {full:.1f} | {reduced:.1f} | {ratio:.2f} | {difference:.2f} |')
    return full, reduced


if __name__ == '__main__':
    main()
