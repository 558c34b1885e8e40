"""A copy of the data at the size that a network is trained at, which is read many times faster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from mmskin.datasets.isic2017 import METADATA_SUFFIX, SPLITS, index_images, index_masks
from mmskin.datasets.readers.image_file import decode, decode_rgb, read_bytes
from mmskin.files import refuse_links, write_csv, write_whole

JPEG_QUALITY = 95
SIZES_FILE = 'native_sizes.csv'


def write_smaller_copy(
    data_root: Path, out_dir: Path, size: int, splits: Sequence[str], workers: int | None = None
) -> tuple[int, int]:
    """Write images and masks of an official-layout folder, each squashed to a square, to another such folder.

    The networks of mmskin see a square in any case. Images keep their format and are averaged over areas; masks take
    the nearest pixel. Files that are newer than their originals are left as they are. Superpixels are left out.

    Args:
        data_root: the folder with the originals.
        out_dir: the folder of the copy.
        size: height and width of the copies, in pixels.
        splits: those that are copied.
        workers: threads; OpenCV works outside Python's lock.

    Returns:
        how many files were written, and how many there are.
    """
    jobs = [job for split in splits for job in planned(data_root, out_dir, SPLITS[split])]
    for folder in {job.target.parent for job in jobs}:
        refuse_links(folder, out_dir)
    missing = [job for job in jobs if is_older(job.target, job.source)]
    with ThreadPoolExecutor(workers) as pool:
        written = pool.map(lambda job: write_whole(job.target, job.resized(job.source, size)), missing)
        title = f'resizing {len(missing)} files to {size} pixels'
        list(track(written, title, len(missing), transient=True, console=Console(stderr=True)))
    return len(missing), len(jobs)


class Job(NamedTuple):
    """A file, its copy's place, and what makes the copy's bytes of the file and the size."""

    source: Path
    target: Path
    resized: Callable[[Path, int], bytes]


def planned(data_root: Path, out_dir: Path, name: str) -> Iterator[Job]:
    """The copies of a split's files."""
    images, masks = data_root / f'{name}_Data', data_root / f'{name}_Part1_GroundTruth'
    kinds = dict.fromkeys(index_images(images).values(), resized_image)
    kinds |= dict.fromkeys(index_masks(masks).values(), resized_mask)
    tables = [data_root / f'{name}_Part3_GroundTruth.csv', *images.glob(f'*{METADATA_SUFFIX}')]
    kinds |= dict.fromkeys(tables, lambda path, size: path.read_bytes())
    yield from (Job(path, out_dir / path.relative_to(data_root), resized) for path, resized in kinds.items())


def is_older(target: Path, source: Path) -> bool:
    """Whether the copy is missing, or older than what it is of."""
    return target.is_symlink() or not target.exists() or target.stat().st_mtime < source.stat().st_mtime


def resized_image(path: Path, size: int) -> bytes:
    """An image of ``size`` x ``size`` pixels, upright, in its own format."""
    image = decode_rgb(read_bytes(str(path)), 1, str(path))
    shrinks = min(image.shape[:2]) > size
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return encode(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), path)


def resized_mask(path: Path, size: int) -> bytes:
    """A mask of ``size`` x ``size`` pixels, with its own values.

    Not by OpenCV's plain INTER_NEAREST, which takes each area's corner: the mask would lie half a pixel off its image.
    """
    mask = decode(read_bytes(str(path)), cv2.IMREAD_GRAYSCALE, str(path))
    return encode(cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST_EXACT), path)


def encode(image: np.ndarray, path: Path) -> bytes:
    """The image in the format that the file's suffix names."""
    suffix = path.suffix.lower()
    options = [] if suffix == '.png' else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(suffix, image, options)[1].tobytes()


def write_native_sizes(out_dir: Path, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Note the originals' sizes, from which the true proportions follow."""
    rows = ((image_id, *size) for image_id, size in sorted(sizes.items()))
    write_csv(out_dir / SIZES_FILE, [('image_id', 'width', 'height'), *rows])
