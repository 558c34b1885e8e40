"""A training sample, from files to tensor, by mmskin and by the libraries that are installed, alternating in one run.

    python speed/training_sample.py [--data-root data/synthetic] [--repeats 10] [--size 192]

Each decodes image and mask, crops, resizes, zooms, rotates, flips, varies the colours and adds noise. Process time of
one thread, the median over samples; albumentations decodes with OpenCV, torchvision with Pillow, as their guides do.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import cv2
import numpy as np
import torch
from PIL import Image

from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.registry import TRANSFORMS

CROP, ZOOM, COLOUR, HUE, STD = (0.6, 1.0), (0.75, 1.3), 0.3, 0.03, 8.0


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', default='data/synthetic')
    parser.add_argument('--split', default='val')
    parser.add_argument('--images', type=int, default=24, help='at most this many of the split')
    parser.add_argument('--repeats', type=int, default=10)
    parser.add_argument('--size', type=int, default=192)
    return parser.parse_args()


def ours(size: int, colour: str = 'ColorJitter') -> Callable[[dict], object]:
    """A pipeline as a config has it."""
    steps = [
        dict(type='LoadImage', size=size, smallest_crop=CROP[0]),
        dict(type='LoadMask'),
        dict(type='RandomWarp', crop=CROP, zoom=ZOOM),
        dict(type=colour, brightness=COLOUR, contrast=COLOUR, saturation=COLOUR, hue=HUE),
        dict(type='GaussianNoise', max_std=STD, prob=1.0),
        dict(type='PackTaskSample'),
    ]
    transforms = [TRANSFORMS.build(step) for step in steps]

    def load(info: dict) -> dict:
        for transform in transforms:
            info = transform(info)
        return info

    return load


def albumentations(size: int) -> Callable[[dict], object]:
    """The same steps of albumentations."""
    import albumentations as A  # noqa: N812
    from albumentations.pytorch import ToTensorV2

    steps = A.Compose(
        [
            A.RandomResizedCrop((size, size), scale=(CROP[0] ** 2, 1.0), ratio=(CROP[0], 1 / CROP[0])),
            A.Affine(scale=ZOOM, rotate=(-180, 180), border_mode=cv2.BORDER_REFLECT, p=1.0),
            A.HorizontalFlip(),
            A.VerticalFlip(),
            A.ColorJitter(
                (1 - COLOUR, 1 + COLOUR), (1 - COLOUR, 1 + COLOUR), (1 - COLOUR, 1 + COLOUR), (-HUE, HUE), p=1.0
            ),
            A.GaussNoise(std_range=(0.0, STD / 255), p=1.0),
            ToTensorV2(),
        ]
    )

    def load(info: dict) -> dict:
        image = cv2.cvtColor(cv2.imread(info['img_path']), cv2.COLOR_BGR2RGB)
        return steps(image=image, mask=cv2.imread(info['seg_map_path'], cv2.IMREAD_GRAYSCALE))

    return load


def torchvision(size: int) -> Callable[[dict], object]:
    """The same steps of torchvision's second version."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    steps = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(CROP[0] ** 2, 1.0), ratio=(CROP[0], 1 / CROP[0]), antialias=True),
            v2.RandomAffine(180, scale=ZOOM, interpolation=v2.InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.ColorJitter(COLOUR, COLOUR, COLOUR, HUE),
            v2.ToDtype({tv_tensors.Image: torch.float32, 'others': None}, scale=True),
            v2.GaussianNoise(sigma=STD / 510),
        ]
    )

    def load(info: dict) -> object:
        image = v2.functional.pil_to_tensor(Image.open(info['img_path']).convert('RGB'))
        mask = v2.functional.pil_to_tensor(Image.open(info['seg_map_path']))
        return steps(tv_tensors.Image(image), tv_tensors.Mask(mask))

    return load


def main() -> None:
    """Measure and print."""
    args = parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    dataset = ISIC2017Dataset(args.data_root, args.split, tasks=('seg',), partial_labels=True)
    infos = [dataset.get_data_info(index) for index in range(min(args.images, len(dataset)))]
    ways = {'mmskin': ours(args.size), "mmskin, mmpretrain's colours": ours(args.size, 'mmpretrain.ColorJitter')}
    for make in (albumentations, torchvision):
        try:
            ways[make.__name__] = make(args.size)
        except ImportError as error:
            print(f'{make.__name__}: left out, {error}')
    times: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(args.repeats + 1):
        for info in infos:
            for way, load in ways.items():
                np.random.seed(repeat)
                start = time.process_time()
                load(dict(info))
                if repeat:  # the first warms up
                    times[way].append(1000 * (time.process_time() - start))
    first = median(times['mmskin'])
    print(f'{len(infos)} images to {args.size} x {args.size} pixels, {args.repeats} repeats, one thread')
    print('| way | median ms | to mmskin |\n|---|---|---|')
    for way, values in times.items():
        print(f'| {way} | {median(values):.2f} | {median(values) / first:.2f} |')


if __name__ == '__main__':
    main()
