"""Synthetic dermoscopic images, written as an official-layout folder: ``python -m mmskin.datasets.synthetic OUT_DIR``.

They let the demo and the tests run the code that reads the real data. They teach nothing about real lesions.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from mmskin.datasets.isic2017 import MASK_SUFFIX, METADATA_SUFFIX, SPLITS
from mmskin.datasets.painting import PAINTERS, add_nuisances, paint_skin
from mmskin.datasets.tables import CLASSES, COLUMNS
from mmskin.errors import Mistake
from mmskin.files import replace_folder, whole_folder, write_csv, write_json
from mmskin.program import run_tool

MANIFEST = 'synthetic.json'
VERSION = 4  # raise it with every change of the images, so that folders written before are written again
AGES = (62, 42, 68)  # mean by class, in years; standard deviation 12
MALE = (0.65, 0.45, 0.55)  # share by class
UNKNOWN = 0.1  # share of ages, and of sexes


class SyntheticLesions:
    """A generator of dermoscopy-like images with masks and labels; the same arguments give the same images.

    The three classes differ in shape, border, colour and structures, and come equally often; hair, rulers and dark
    corners come with any. An image depends on seed, split and index only, not on how many there are. Each has an age
    and a sex, related to the class as ``AGES`` and ``MALE`` say; a tenth of either is unknown.

    Args:
        seed: chooses the images.
        shape: (height, width) of the images, in pixels.
    """

    def __init__(self, seed: int = 0, shape: tuple[int, int] = (160, 200)) -> None:
        self.seed = seed
        self.shape = shape

    def sample(self, split: str, index: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Image (uint8 RGB (H, W, 3)), mask (uint8 (H, W), 0 or 1) and label of one sample."""
        rng = np.random.default_rng((self.seed, list(SPLITS).index(split), index))
        label = index % len(CLASSES)
        picture, outline = PAINTERS[label](paint_skin(rng, self.shape), rng)
        picture = cv2.GaussianBlur(add_nuisances(picture, rng), (0, 0), rng.uniform(0.3, 0.9))
        picture = picture + rng.normal(0, 0.01, picture.shape)
        return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8), (outline.depth > 0).astype(np.uint8), label

    def age_and_sex(self, split: str, index: int) -> tuple[str, str]:
        """The age, to five years, and the sex of one sample as ISIC-2017's tables write them."""
        rng = np.random.default_rng((self.seed, list(SPLITS).index(split), index, 1))
        label = index % len(CLASSES)
        age = 5 * round(float(np.clip(rng.normal(AGES[label], 12), 5, 90)) / 5)
        sex = 'male' if rng.uniform() < MALE[label] else 'female'
        age_unknown, sex_unknown = rng.uniform(size=2) < UNKNOWN
        return 'unknown' if age_unknown else str(age), 'unknown' if sex_unknown else sex

    def write(self, out_dir: str | Path, num_train: int = 300, num_val: int = 45, num_test: int = 120) -> None:
        """Write images, masks and tables to ``out_dir``, unless it holds exactly these already.

        The folder appears under its name when it is complete, so an interrupted run leaves none behind.

        Raises:
            Mistake: if ``out_dir`` holds something else than such a set, or a number is below 0.
            OSError: if an image cannot be written, as on a full disk.
        """
        out_dir = Path(out_dir)
        counts = dict(train=num_train, val=num_val, test=num_test)
        if min(counts.values()) < 0:
            raise Mistake(f'{counts}: give numbers of images')
        manifest = dict(version=VERSION, seed=self.seed, shape=list(self.shape), **counts)
        written = out_dir / MANIFEST
        if written.is_file():
            try:
                if json.loads(written.read_text(encoding='utf-8')) == manifest:
                    return
            except (RecursionError, ValueError) as error:
                raise Mistake(f'{written}: damaged; remove {out_dir}, and run this again') from error
        elif out_dir.exists() and any(out_dir.iterdir()):
            raise Mistake(f'{out_dir} holds other files than a synthetic set; choose another folder or empty it')
        with whole_folder(out_dir) as folder:
            unfinished = folder / out_dir.name
            for split, count in counts.items():
                self.write_split(unfinished, split, count)
            write_json(unfinished / MANIFEST, manifest)
            replace_folder(unfinished, out_dir)

    def write_split(self, root: Path, split: str, count: int) -> None:
        """Write one split's images, masks and tables."""
        images, masks = root / f'{SPLITS[split]}_Data', root / f'{SPLITS[split]}_Part1_GroundTruth'
        images.mkdir(parents=True)
        masks.mkdir()
        rows, metadata = [], []
        for index in track(range(count), f'painting {count} images of split {split}', transient=True):
            image, mask, label = self.sample(split, index)
            image_id = f'SYN_{list(SPLITS).index(split)}{index:06d}'
            jpeg = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            (images / f'{image_id}.jpg').write_bytes(jpeg.tobytes())  # which raises where the disk is full
            (masks / f'{image_id}{MASK_SUFFIX}').write_bytes(cv2.imencode('.png', mask * 255)[1].tobytes())
            rows.append((image_id, *(float(CLASSES[label] == column) for column in COLUMNS[1:])))
            metadata.append((image_id, *self.age_and_sex(split, index)))
        write_csv(root / f'{SPLITS[split]}_Part3_GroundTruth.csv', [COLUMNS, *rows])
        write_csv(images / f'{images.name}{METADATA_SUFFIX}', [('image_id', 'age_approximate', 'sex'), *metadata])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('out_dir')
    for split, count in dict(train=300, val=45, test=120).items():
        parser.add_argument(f'--num-{split}', type=int, default=count)
    parser.add_argument('--seed', type=int, default=0)


def run(args: argparse.Namespace) -> None:
    """Write a synthetic set."""
    counts = args.num_train, args.num_val, args.num_test
    print(f'painting {sum(counts)} synthetic lesions into {args.out_dir} ...', flush=True)
    SyntheticLesions(args.seed).write(args.out_dir, *counts)


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
