"""Preparing ISIC-2017: download, verify, unpack, check, make a smaller copy; what is done already is passed over."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from mmskin.datasets.isic2017 import SPLITS
from mmskin.datasets.preparation.archives import ARCHIVES, MIRRORS, Archive, read_checksums, verify, write_checksums
from mmskin.datasets.preparation.check import check_split
from mmskin.datasets.preparation.download import PartialFile, Patience, download, remote_size
from mmskin.datasets.preparation.record import (
    ArchiveRecord,
    Preparation,
    SplitRecord,
    fingerprint,
    problems_of,
    read_preparation,
)
from mmskin.datasets.preparation.smaller_copy import write_native_sizes, write_smaller_copy
from mmskin.datasets.preparation.unpack import need_space, unpack
from mmskin.errors import MissingFile, Mistake
from mmskin.files import refuse_links, write_whole

SUMS_FILE = 'checksums.sha256'


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
        Mistake: if an archive is wrong, damaged or harmful, or a setting makes no sense.
        Mistake: if an archive cannot be downloaded.
        Mistake: if the disk is full, or another process prepares the same folder.
    """
    if settings.resize is not None and settings.resize < 1:
        raise Mistake(f'resize={settings.resize}: give the pixels of the copies, such as 256.')
    if settings.workers is not None and settings.workers < 1:
        raise Mistake(f'workers={settings.workers}: give one or more.')
    if strange := [mirror for mirror in settings.mirrors if '://' not in mirror]:
        raise Mistake(f'mirror {strange[0]}: give an address, such as https://host/folder.')
    out_dir = Path(settings.out_dir)
    with alone(out_dir):
        done = read_preparation(out_dir)
        get_archives(settings, done)
        unpack_archives(settings, done)
        check_splits(out_dir, settings, done.splits)
        done.write(out_dir)
        if settings.resize and not problems_of(done.splits):
            make_copy(settings, settings.resize, done)
            done.write(out_dir)
    return done


@contextmanager
def alone(out_dir: Path) -> Iterator[None]:
    """Keep other processes from preparing the same folder."""
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out_dir / '.preparation.lock', timeout=0):
            yield
    except Timeout as error:
        raise Mistake(f'another process is preparing {out_dir}; wait until it is done.') from error


def wanted(settings: Settings) -> list[Archive]:
    """The archives of the splits, with the checksums that hold."""
    given = read_checksums(settings.checksums) if settings.checksums else {}
    chosen = [archive for archive in settings.archives if archive.split in settings.splits]
    return [replace(archive, checksum=given.get(archive.name, archive.checksum)) for archive in chosen]


def place_of(settings: Settings, archive: Archive) -> Path:
    """Where an archive is, or goes to."""
    return Path(settings.archives_dir or Path(settings.out_dir) / 'archives') / archive.name


def get_archives(settings: Settings, done: Preparation) -> None:
    """Verify the archives that are there, and download the others, unless they are unpacked already."""
    out_dir, files = Path(settings.out_dir), {archive: place_of(settings, archive) for archive in wanted(settings)}
    absent = [one for one, path in files.items() if not path.is_file() and not is_unpacked(out_dir, one, done)]
    if absent and settings.offline:
        raise MissingFile(
            f'{", ".join(one.name for one in absent)} missing from {files[absent[0]].parent}; put them there, '
            'or let them be downloaded.'
        )
    for path in {files[one].parent for one in absent}:
        if settings.archives_dir is None:
            refuse_links(path, out_dir)
        path.mkdir(parents=True, exist_ok=True)
    check_room(settings, {one: files[one] for one in absent})
    for archive, path in files.items():
        if archive in absent:
            done.archives[archive.name] = fetch(settings, archive, path)
        elif path.is_file() and not is_known(path, archive, done):
            with Console(stderr=True).status(f'verifying {archive.name}'):
                sha256 = verify(path, archive)
            done.archives[archive.name] = record(path, str(path), sha256, archive)
        done.write(out_dir)
    write_checksums(out_dir / SUMS_FILE, {name: one.sha256 for name, one in done.archives.items()})


def is_unpacked(out_dir: Path, archive: Archive, done: Preparation) -> bool:
    """Whether an earlier run has unpacked an archive, and its files are still there."""
    known, place = done.archives.get(archive.name), out_dir / archive.unpacked_name
    if known is None or known.files is None or archive.checksum not in ('', known.checksum, known.sha256):
        return False
    return place.is_file() if not archive.is_zip else place.is_dir() and count_files(place) >= known.files


def count_files(folder: Path) -> int:
    """The files below a folder."""
    return sum(len(names) for _, _, names in os.walk(folder))


def is_known(path: Path, archive: Archive, done: Preparation) -> bool:
    """Whether the file was verified by an earlier run, against a checksum if there is one now."""
    known, now = done.archives.get(archive.name), path.stat()
    if known is None or (known.bytes, known.modified) != (now.st_size, now.st_mtime):
        return False
    return not archive.checksum or archive.checksum == known.checksum


def record(path: Path, source: str, sha256: str, archive: Archive) -> ArchiveRecord:
    """What is kept of a verified archive."""
    now = path.stat()
    return ArchiveRecord(source, now.st_size, now.st_mtime, sha256, archive.checksum)


def check_room(settings: Settings, absent: Mapping[Archive, Path]) -> None:
    """Raise Mistake if the archives and what they hold will not fit; silent where no server tells their sizes."""
    if not absent:
        return
    sizes = []
    for archive, path in absent.items():
        size = remote_size(addresses(settings, archive), settings.patience.timeout)
        if size is None:
            return
        sizes.append((size - PartialFile(path).size, size))
    downloads, contents = (sum(column) for column in zip(*sizes, strict=True))  # images hardly shrink in a zip
    archives_dir, out_dir = next(iter(absent.values())).parent, Path(settings.out_dir)
    shared = archives_dir.stat().st_dev == out_dir.stat().st_dev
    need_space(archives_dir, downloads + contents * shared, 'downloading' + ' and unpacking' * shared)
    need_space(out_dir, contents, 'unpacking')


def addresses(settings: Settings, archive: Archive) -> list[str]:
    """Where an archive may be had."""
    return [f'{mirror.rstrip("/")}/{archive.name}' for mirror in (*settings.mirrors, *settings.official_mirrors)]


def fetch(settings: Settings, archive: Archive, path: Path) -> ArchiveRecord:
    """Download one archive."""
    with byte_progress(archive.name) as report:
        urls = addresses(settings, archive)
        url, sha256 = download(urls, path, lambda part: verify(part, archive), settings.patience, report)
    return record(path, url, sha256, archive)


@contextmanager
def byte_progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar in bytes, as a function that is told what is done and what there is."""
    columns = (TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)  # as all progress here; the report is all that goes to the standard output
    with Progress(*columns, TimeRemainingColumn(), transient=True, console=console) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def unpack_archives(settings: Settings, done: Preparation) -> None:
    """Unpack, or for a table copy, what is not there yet."""
    out_dir = Path(settings.out_dir)
    for archive in wanted(settings):
        if is_unpacked(out_dir, archive, done):
            continue
        path, place = place_of(settings, archive), out_dir / archive.unpacked_name
        if archive.is_zip:
            refuse_links(place, out_dir)
        with byte_progress(f'unpacking {archive.name}') as report:
            done.archives[archive.name].files = unpack(path, place, report) if archive.is_zip else copy(path, place)
        done.write(out_dir)


def copy(path: Path, place: Path) -> int:
    """Copy one file."""
    if place.is_symlink() or not (place.exists() and path.samefile(place)):
        write_whole(place, path.read_bytes())
    return 1


def check_splits(data_root: Path, settings: Settings, records: dict[str, SplitRecord]) -> None:
    """Check the splits that have changed since they were checked."""
    for split in settings.splits:
        now = fingerprint(data_root, split)
        if split not in records or records[split].fingerprint != now:
            records[split] = SplitRecord(now, check_split(data_root, split, settings.workers))


def make_copy(settings: Settings, size: int, done: Preparation) -> None:
    """Write the smaller copy, and check it as the originals are."""
    out_dir = Path(settings.out_dir)
    out_dir = out_dir if out_dir.name not in ('', '..') else out_dir.resolve()
    target = out_dir.with_name(f'{out_dir.name}_{size}')
    if done.copy != str(target):
        done.copy, done.copied_splits = str(target), {}
    write_smaller_copy(out_dir, target, size, settings.splits, settings.workers)
    write_native_sizes(target, {key: size for one in done.splits.values() for key, size in one.check.sizes.items()})
    check_splits(target, settings, done.copied_splits)
