"""Preparing ISIC-2017: download, verify, unpack, check, make a smaller copy; what is done already is skipped."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
    track,
)

from mmskin.datasets.isic2017 import METADATA_SUFFIX, SPLITS, index_images, index_masks
from mmskin.datasets.preparation.archives import (
    ARCHIVES,
    MIRRORS,
    Archive,
    need_space,
    read_checksums,
    unpack,
    verify,
    write_checksums,
)
from mmskin.datasets.preparation.download import PartialFile, Patience, download, remote_size
from mmskin.datasets.preparation.record import ArchiveRecord, Preparation, check_splits, problems_of, read_preparation
from mmskin.errors import MissingFile, Mistake
from mmskin.files import refuse_links, write_csv, write_whole
from mmskin.readers.images import read_image
from mmskin.readers.masks import read_mask

SUMS_FILE = 'checksums.sha256'
SIZES_FILE = 'native_sizes.csv'
JPEG_QUALITY = 95  # of the smaller copy


@dataclass
class Settings:
    """What is prepared, and how.

    Attributes:
        out_dir: becomes the data folder in the official layout.
        archives_dir: where archives are, or are downloaded to; ``out_dir/archives`` if None.
        splits: of 'train', 'val' and 'test'.
        mirrors: addresses of folders with the archives, tried before the official ones.
        checksums: a list as ``md5sum`` or ``sha256sum`` writes it; wins over the sums that are known.
        resize: pixels of the sides of a smaller copy, in ``<out_dir>_<resize>``; None for no copy.
        offline: download nothing.
        patience: see ``Patience``.
        workers: threads; as many as ``ThreadPoolExecutor`` takes if None.
        archives: the files of the challenge.
        official_mirrors: their addresses.
    """

    out_dir: str | Path
    archives_dir: str | Path | None = None
    splits: Sequence[str] = tuple(SPLITS)
    mirrors: Sequence[str] = ()
    checksums: str | Path | None = None
    resize: int | None = None
    offline: bool = False
    patience: Patience = Patience()
    workers: int | None = None
    archives: Sequence[Archive] = ARCHIVES
    official_mirrors: Sequence[str] = MIRRORS


def prepare(settings: Settings) -> Preparation:
    """Prepare the data, and write ``preparation.json``, ``preparation.txt`` and ``checksums.sha256`` to ``out_dir``.

    Returns:
        the report. Faults of single images and labels are its ``problems``, and raise nothing.

    Raises:
        MissingFile: if an archive is missing and nothing may be downloaded.
        Mistake: if an archive is wrong, damaged or harmful, or cannot be downloaded; if a setting makes no sense, the
            disk is full, or another process prepares the same folder.
    """
    if settings.resize is not None and settings.resize < 1:
        raise Mistake(f'resize={settings.resize}: give the pixels of the copies, such as 256.')
    if settings.workers is not None and settings.workers < 1:
        raise Mistake(f'workers={settings.workers}: give one or more.')
    if strange := [mirror for mirror in settings.mirrors if '://' not in mirror]:
        raise Mistake(f'mirror {strange[0]}: give an address, such as https://host/folder.')
    out_dir = Path(settings.out_dir)
    given = read_checksums(settings.checksums) if settings.checksums else {}
    folder = Path(settings.archives_dir or out_dir / 'archives')
    archives = {
        replace(archive, checksum=given.get(archive.name, archive.checksum)): folder / archive.name
        for archive in settings.archives
        if archive.split in settings.splits
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out_dir / '.preparation.lock', timeout=0):
            done = read_preparation(out_dir)
            get_archives(settings, archives, done)
            unpack_archives(out_dir, archives, done)
            check_splits(out_dir, settings.splits, done.splits, settings.workers)
            done.write(out_dir)
            if settings.resize and not problems_of(done.splits):
                make_copy(settings, settings.resize, done)
                done.write(out_dir)
    except Timeout as error:
        raise Mistake(f'another process is preparing {out_dir}; wait until it is done.') from error
    return done


def make_copy(settings: Settings, size: int, done: Preparation) -> None:
    """Write the smaller copy with the originals' sizes, and check it as the originals are."""
    out_dir = Path(settings.out_dir)
    out_dir = out_dir if out_dir.name not in ('', '..') else out_dir.resolve()
    target = out_dir.with_name(f'{out_dir.name}_{size}')
    if done.copy != str(target):
        done.copy, done.copied_splits = str(target), {}
    write_smaller_copy(out_dir, target, size, settings.splits, settings.workers)
    sizes = {image_id: pair for record in done.splits.values() for image_id, pair in record.check.sizes.items()}
    rows = ((image_id, *pair) for image_id, pair in sorted(sizes.items()))
    write_csv(target / SIZES_FILE, [('image_id', 'width', 'height'), *rows])
    check_splits(target, settings.splits, done.copied_splits, settings.workers)


def get_archives(settings: Settings, archives: Mapping[Archive, Path], done: Preparation) -> None:
    """Verify the archives that are there, and download the others, unless they are unpacked already."""
    out_dir = Path(settings.out_dir)
    absent = [one for one, path in archives.items() if not path.is_file() and not is_unpacked(out_dir, one, done)]
    if absent:
        folder = archives[absent[0]].parent
        if settings.offline:
            names = ', '.join(archive.name for archive in absent)
            raise MissingFile(f'{names} missing from {folder}; put them there, or let them be downloaded.')
        if settings.archives_dir is None:
            refuse_links(folder, out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        check_room(settings, {archive: archives[archive] for archive in absent})
    for archive, path in archives.items():
        if archive in absent:
            with byte_progress(archive.name) as report:
                urls, check = addresses(settings, archive), partial(verify, archive=archive)
                source, sha256 = download(urls, path, check, settings.patience, report)
        elif path.is_file() and not is_known(path, archive, done):
            with Console(stderr=True).status(f'verifying {archive.name}'):
                source, sha256 = str(path), verify(path, archive)
        else:
            continue
        state = path.stat()
        record = ArchiveRecord(source, state.st_size, state.st_mtime, sha256, archive.checksum)
        done.archives[archive.name] = record
        done.write(out_dir)
    write_checksums(out_dir / SUMS_FILE, {name: record.sha256 for name, record in done.archives.items()})


def is_unpacked(out_dir: Path, archive: Archive, done: Preparation) -> bool:
    """Whether an earlier run has unpacked an archive, and its files are still there."""
    known, place = done.archives.get(archive.name), out_dir / archive.unpacked_name
    if known is None or known.files is None or archive.checksum not in ('', known.checksum, known.sha256):
        return False
    if not archive.is_zip:
        return place.is_file()
    return place.is_dir() and sum(len(names) for _, _, names in os.walk(place)) >= known.files


def is_known(path: Path, archive: Archive, done: Preparation) -> bool:
    """Whether the file was verified by an earlier run, against a checksum if there is one now."""
    known, now = done.archives.get(archive.name), path.stat()
    if known is None or (known.bytes, known.modified) != (now.st_size, now.st_mtime):
        return False
    return not archive.checksum or archive.checksum == known.checksum


def check_room(settings: Settings, absent: Mapping[Archive, Path]) -> None:
    """Raise Mistake if the archives and what they hold will not fit; silent where no server tells their sizes."""
    downloads = contents = 0
    for archive, path in absent.items():
        size = remote_size(addresses(settings, archive), settings.patience.timeout)
        if size is None:
            return
        downloads += size - PartialFile(path).size
        contents += size  # images hardly shrink in a zip
    archives_dir, out_dir = next(iter(absent.values())).parent, Path(settings.out_dir)
    if archives_dir.stat().st_dev == out_dir.stat().st_dev:
        need_space(archives_dir, downloads + contents, 'downloading and unpacking')
    else:
        need_space(archives_dir, downloads, 'downloading')
        need_space(out_dir, contents, 'unpacking')


def addresses(settings: Settings, archive: Archive) -> list[str]:
    """Where an archive may be downloaded from."""
    return [f'{mirror.rstrip("/")}/{archive.name}' for mirror in (*settings.mirrors, *settings.official_mirrors)]


def unpack_archives(out_dir: Path, archives: Mapping[Archive, Path], done: Preparation) -> None:
    """Unpack, or for a table copy, what is not there yet."""
    for archive, path in archives.items():
        if is_unpacked(out_dir, archive, done):
            continue
        place, record = out_dir / archive.unpacked_name, done.archives[archive.name]
        if archive.is_zip:
            refuse_links(place, out_dir)
            with byte_progress(f'unpacking {archive.name}') as report:
                record.files = unpack(path, place, report)
        else:
            if place.is_symlink() or not (place.exists() and path.samefile(place)):
                write_whole(place, path.read_bytes())
            record.files = 1
        done.write(out_dir)


@contextmanager
def byte_progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar in bytes, as a function of those that are done and all."""
    columns = (TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)  # as all progress here; the report is all that goes to the standard output
    with Progress(*columns, TimeRemainingColumn(), transient=True, console=console) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def write_smaller_copy(
    data_root: Path, out_dir: Path, size: int, splits: Sequence[str], workers: int | None = None
) -> None:
    """Write images and masks of an official-layout folder, each squashed to a square, to another such folder.

    The networks of mmskin see a square in any case, and read a small image many times faster. Images keep their format
    and are averaged over areas; masks take the nearest pixel. Files that are newer than their originals are left as
    they are. Superpixels are left out.

    Args:
        data_root: the folder with the originals.
        out_dir: the folder of the copy.
        size: height and width of the copies, in pixels.
        splits: those that are copied.
        workers: threads; OpenCV works outside Python's lock.
    """
    kinds: dict[Path, Callable[[Path, int], bytes]] = {}
    for name in (SPLITS[split] for split in splits):
        images = data_root / f'{name}_Data'
        kinds |= dict.fromkeys(index_images(images).values(), resized_image)
        kinds |= dict.fromkeys(index_masks(data_root / f'{name}_Part1_GroundTruth').values(), resized_mask)
        tables = [data_root / f'{name}_Part3_GroundTruth.csv', *images.glob(f'*{METADATA_SUFFIX}')]
        kinds |= dict.fromkeys(tables, lambda path, size: path.read_bytes())
    targets = {path: out_dir / path.relative_to(data_root) for path in kinds}
    for folder in {target.parent for target in targets.values()}:
        refuse_links(folder, out_dir)
    missing = [
        (source, target)
        for source, target in targets.items()
        if target.is_symlink() or not target.exists() or target.stat().st_mtime < source.stat().st_mtime
    ]
    with ThreadPoolExecutor(workers) as pool:
        written = pool.map(lambda pair: write_whole(pair[1], kinds[pair[0]](pair[0], size)), missing)
        title = f'resizing {len(missing)} files to {size} pixels'
        deque(track(written, title, len(missing), transient=True, console=Console(stderr=True)), maxlen=0)


def resized_image(path: Path, size: int) -> bytes:
    """An image of ``size`` x ``size`` pixels, upright, in its own format."""
    image, _ = read_image(path)
    shrinks = min(image.shape[:2]) > size
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return encode(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), path)


def resized_mask(path: Path, size: int) -> bytes:
    """A mask of ``size`` x ``size`` pixels, 0 and 255.

    Not by OpenCV's plain INTER_NEAREST, which takes each area's corner: the mask would lie half a pixel off its image.
    """
    mask = read_mask(path) * np.uint8(255)
    return encode(cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST_EXACT), path)


def encode(image: np.ndarray, path: Path) -> bytes:
    """The image in the format that the file's suffix names."""
    suffix = path.suffix.lower()
    options = [] if suffix == '.png' else [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return cv2.imencode(suffix, image, options)[1].tobytes()
