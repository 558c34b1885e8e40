"""Synthetic photographs of the back of the eye, with a table: ``python -m mmskin.datasets.fundus OUT_DIR``.

They show a network with other tasks than a lesion's, and let its tests run. They teach nothing about real eyes.
"""

import argparse
import math
import sys
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from mmskin.datasets.painting import blend, dots, grid, ramp, smooth_noise, stroke
from mmskin.errors import Mistake
from mmskin.files import replace_folder, whole_folder, write_csv, write_whole
from mmskin.program import run_tool

TABLE = 'fundus.csv'
HEAD = ('image_id', 'split', 'grade', 'eye', 'haemorrhage', 'exudate')
NUM_GRADES = 4
FINDINGS = ('haemorrhage', 'exudate')
UNKNOWN = 0.1  # share of findings that nobody looked for


class SyntheticFundus:
    """A generator of fundus-like images; the same arguments give the same images.

    Each has a grade from 0 to 3, by the number of its haemorrhages and exudates; an eye, left or right, by the side of
    the optic disc; and maps of its vessels, 1 on arteries and 2 on veins, and of either finding.

    Args:
        seed: chooses the images.
        size: height and width, in pixels.
    """

    def __init__(self, seed: int = 0, size: int = 160) -> None:
        self.seed, self.size = seed, size

    def sample(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray], int, str]:
        """Image (uint8 RGB), maps by name (uint8 (H, W)), grade and eye of one sample."""
        rng = np.random.default_rng((self.seed, index))
        grade, eye = index % NUM_GRADES, 'left' if rng.uniform() < 0.5 else 'right'
        shape, middle, radius = (self.size, self.size), self.size / 2, 0.46 * self.size
        x, y = grid(shape)
        inside = np.hypot(x - middle, y - middle) < radius
        side = -1 if eye == 'left' else 1
        disc = np.array([middle + side * 0.5 * radius, middle + rng.normal(0, 0.05) * radius])
        picture = np.array([0.75, 0.36, 0.16], np.float32) + 0.04 * smooth_noise(rng, shape, 20)[..., None]
        picture = blend(
            picture, (0.98, 0.86, 0.6), ramp(-np.hypot(x - disc[0], y - disc[1]), -0.17 * radius, -0.11 * radius)
        )
        maps = {'vessels': np.zeros(shape, np.uint8)}
        for kind, color in ((2, (0.42, 0.08, 0.06)), (1, (0.66, 0.16, 0.1))):
            layer = self._vessels(rng, disc, -side, radius)
            picture = blend(picture, color, 0.9 * layer)
            maps['vessels'][(layer > 0.5) & inside] = kind
        for name, color, spread in (('haemorrhage', (0.35, 0.02, 0.02), 2.6), ('exudate', (0.98, 0.9, 0.45), 2.0)):
            count = 0 if grade == 0 else int(rng.integers(3 * grade - 1, 4 * grade + 1))
            angle, far = rng.uniform(0, 2 * math.pi, count), radius * np.sqrt(rng.uniform(0.02, 0.75, count))
            points = middle + np.stack([far * np.cos(angle), far * np.sin(angle)], axis=1)
            layer = dots(shape, points, rng.uniform(0.6, 1.0, count) * spread)
            picture = blend(picture, color, layer)
            maps[name] = ((layer > 0.4) & inside).astype(np.uint8)
        picture = np.where(inside[..., None], picture + rng.normal(0, 0.01, picture.shape), 0.02)
        return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8), maps, grade, eye

    def _vessels(self, rng: np.random.Generator, disc: np.ndarray, side: int, radius: float) -> np.ndarray:
        """A layer (H, W) with a vessel that leaves the disc upwards and one downwards, each with branches."""
        layer = np.zeros((self.size, self.size), np.float32)
        for vertical in (-1, 1):
            along = np.linspace(0, 1, 24)
            bend = rng.uniform(0.5, 0.9)
            x = disc[0] + side * radius * (1.3 * along - 0.15)
            y = disc[1] + vertical * radius * bend * np.sin(math.pi * np.minimum(along * 0.9 + 0.05, 1)) ** 0.8
            path = np.stack([x, y], axis=1)
            layer = np.maximum(layer, stroke(layer.shape, path, self.size / 55))
            for start in rng.integers(4, 20, 3):
                angle = vertical * rng.uniform(0.4, 1.2) + (0 if side > 0 else math.pi)
                steps = np.linspace(0, rng.uniform(0.2, 0.5) * radius, 12)[:, None]
                branch = path[start] + steps * np.array([math.cos(angle), side * math.sin(angle) * vertical * vertical])
                layer = np.maximum(layer, stroke(layer.shape, branch, self.size / 110))
        return layer

    def write(self, out_dir: str | Path, num_train: int = 160, num_val: int = 24, num_test: int = 40) -> None:
        """Write images, maps and ``fundus.csv`` to ``out_dir``, which appears under its name when it is complete.

        Raises:
            Mistake: if ``out_dir`` holds something else than such a set.
        """
        out_dir = Path(out_dir)
        if out_dir.exists() and any(out_dir.iterdir()) and not (out_dir / TABLE).is_file():
            raise Mistake(f'{out_dir} holds other files than a synthetic set; choose another folder or empty it')
        splits = ['train'] * num_train + ['val'] * num_val + ['test'] * num_test
        with whole_folder(out_dir) as folder:
            unfinished, rows = folder / out_dir.name, []
            for index, split in enumerate(track(splits, f'painting {len(splits)} images', transient=True)):
                image, maps, grade, eye = self.sample(index)
                image_id = f'FUNDUS_{index:05d}'
                write_whole(
                    unfinished / 'images' / f'{image_id}.png', cv2.imencode('.png', image[..., ::-1])[1].tobytes()
                )
                for name, levels in maps.items():
                    scaled = levels if name == 'vessels' else levels * 255
                    write_whole(unfinished / name / f'{image_id}.png', cv2.imencode('.png', scaled)[1].tobytes())
                unknown = np.random.default_rng((self.seed, index, 1)).uniform(size=len(FINDINGS)) < UNKNOWN
                findings = ['' if gap else int(maps[name].any()) for name, gap in zip(FINDINGS, unknown, strict=True)]
                rows.append((image_id, split, grade, eye, *findings))
            write_csv(unfinished / TABLE, [HEAD, *rows])
            replace_folder(unfinished, out_dir)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('out_dir')
    for split, count in dict(train=160, val=24, test=40).items():
        parser.add_argument(f'--num-{split}', type=int, default=count)
    parser.add_argument('--seed', type=int, default=0)


def run(args: argparse.Namespace) -> None:
    """Write a synthetic set."""
    SyntheticFundus(args.seed).write(args.out_dir, args.num_train, args.num_val, args.num_test)


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
