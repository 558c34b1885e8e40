"""Crop, resize, zoom, rotation and flip as one warp against the same steps one after the other, alternating in one run.

    python speed/augmentation.py [--data-root data/synthetic] [--repeats 200] [--size 233]

Both draw the same crops, angles and flips, and resample with bilinear weights for the image and nearest for the mask.
"""

import argparse
import time
from statistics import median

import cv2
import numpy as np

from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.transforms.loading import LoadImage, LoadMask
from mmskin.datasets.transforms.processing import RandomWarp

CROP, ZOOM = (0.8, 1.0), (0.9, 1.1)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', default='data/synthetic')
    parser.add_argument('--split', default='val')
    parser.add_argument('--images', type=int, default=8, help='at most this many of the split')
    parser.add_argument('--repeats', type=int, default=200)
    parser.add_argument('--size', type=int, default=233)
    return parser.parse_args()


def stepwise(results: dict, size: int) -> dict:
    """The steps of ``RandomWarp``, each on its own, from the same draws in the same order."""
    sides = np.random.uniform(*CROP, 2)
    corner = np.random.uniform(0, 1 - sides)
    zoom, angle = np.random.uniform(*ZOOM), np.random.uniform(-180, 180)
    flips = np.random.uniform(size=2) < 0.5
    for key, interpolation in (('img', cv2.INTER_LINEAR), ('gt_seg_map', cv2.INTER_NEAREST_EXACT)):
        image = crop(results[key], corner, sides)
        image = cv2.resize(image, (size, size), interpolation=interpolation)
        image = turn(image, angle, 1.0, interpolation)
        image = turn(image, 0.0, zoom, interpolation)
        image = image[:, ::-1] if flips[0] else image
        results[key] = np.ascontiguousarray(image[::-1] if flips[1] else image)
    return results


def crop(image: np.ndarray, corner: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The window as a view."""
    height, width = image.shape[:2]
    (left, top), (right, bottom) = corner, corner + sides
    return image[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]


def turn(image: np.ndarray, angle: float, zoom: float, interpolation: int) -> np.ndarray:
    """Rotate or magnify about the centre."""
    centre = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, -angle, zoom)
    flags = cv2.INTER_NEAREST if interpolation == cv2.INTER_NEAREST_EXACT else interpolation
    return cv2.warpAffine(image, matrix, image.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REFLECT)


def main() -> None:
    """Measure and print."""
    args = parse_args()
    cv2.setNumThreads(1)
    dataset = ISIC2017Dataset(args.data_root, args.split, tasks=('seg',), pipeline=[LoadImage(args.size, CROP[0])])
    samples = [LoadMask()(dataset[index]) for index in range(min(args.images, len(dataset)))]
    one_warp = RandomWarp(args.size, CROP, ZOOM)
    ways = {'one warp': one_warp, 'step by step': lambda results: stepwise(results, args.size)}
    times, differences = {way: [] for way in ways}, []
    for repeat in range(args.repeats):
        outputs = {}
        for way in sorted(ways, reverse=repeat % 2 == 1):
            np.random.seed(repeat)
            start = time.perf_counter()
            outputs[way] = ways[way](dict(samples[repeat % len(samples)]))
            times[way].append(1000 * (time.perf_counter() - start))
        differences.append(
            [
                np.abs(np.subtract(*(output[key].astype(float) for output in outputs.values()))).mean()
                for key in ('img', 'gt_seg_map')
            ]
        )
    report(times, np.mean(differences, axis=0), args)


def report(times: dict[str, list[float]], differences: np.ndarray, args: argparse.Namespace) -> None:
    """Print the table and the ratio."""
    print(f'image and mask to {args.size} x {args.size} pixels, {args.repeats} repeats, one thread')
    print('| way | median ms | fastest ms | slowest ms |\n|---|---|---|---|')
    for way, values in times.items():
        print(f'| {way} | {" | ".join(f"{f(values):.2f}" for f in (median, min, max))} |')
    once, steps = (median(values) for values in times.values())
    print(f'ratio of medians: {once / steps:.2f}; wanted: below 1')
    print(f'mean difference: {differences[0]:.2f} grey levels, {100 * differences[1]:.2f} % of the mask')


if __name__ == '__main__':
    main()
