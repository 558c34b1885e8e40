"""Preparing a collection: download, verify, unpack, check, compare, copy smaller; what is done already is skipped."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from string import Template

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

from mmskin.datasets.duplicates import Print
from mmskin.datasets.preparation.archives import (
    Archive,
    need_space,
    read_checksums,
    unpack,
    verify,
    write_checksums,
)
from mmskin.datasets.preparation.catalogue import CATALOGUE, Collection
from mmskin.datasets.preparation.download import PartialFile, Patience, download, remote_size
from mmskin.datasets.preparation.record import NAME, ArchiveRecord, Leak, Preparation, SplitRecord, read_preparation
from mmskin.datasets.preparation.table import (
    MASKS,
    PRINTS,
    TABLE,
    Row,
    check_files,
    deal,
    find_leaks,
    read_prints,
    read_rows_of,
    state_of,
    write_prints,
    write_table,
)
from mmskin.errors import MissingFile, Mistake
from mmskin.files import refuse_links, write_csv, write_unless_edited, write_whole
from mmskin.readers.images import MAX_PIXELS, read_image
from mmskin.readers.masks import read_mask

SUMS_FILE = 'checksums.sha256'
SIZES_FILE = 'native_sizes.csv'
JPEG_QUALITY = 95  # of the smaller copy
TABLES = ('.csv', '.tab', '.txt', '.xlsx')
CONFIG = """\"\"\"Trains the lite network on $name as mmskin prepare left it: $command.\"\"\"

from mmengine.config import read_base

with read_base():
    from mmskin.configs.$base.lite0_isic2017 import *

# what a later split, or validation or test of another collection that was compared, has as well
exclude = $exclude
for split, loader in dict(train=train_dataloader, val=val_dataloader, test=test_dataloader).items():
    loader.dataset = dict(
        type='CsvLesionDataset',
        data_root=$root,
        csv='lesions.csv',
        id_column='image_id',
        mask_column='mask',
        label_column='diagnosis',
        metainfo=dict(classes=$classes),
        split=split,
        exclude=exclude[split],
        pipeline=loader.dataset.pipeline,
        test_mode=split != 'train',
    )
model.tasks.cls.head.num_classes = $count
val_evaluator = [
    dict(type='ClassificationMetric'),
    dict(type='SegmentationMetric'),
]
test_evaluator = [
    *val_evaluator,
    dict(type='ContourSheet', out_file='cases.png'),
]
del split, loader, exclude
"""


@dataclass
class Settings:
    """What is prepared, and how.

    Attributes:
        collection: its name in the catalogue.
        out_dir: becomes the data folder.
        sources: archives on disk, and folders that hold some or are what one was unpacked to.
        splits: of the collection's; None for all.
        mirrors: addresses of folders with the archives, tried before the official ones.
        checksums: a list as ``md5sum`` or ``sha256sum`` writes it; wins over the sums that are known.
        resize: pixels of the sides of a smaller copy, in ``<out_dir>_<resize>``; None for no copy.
        offline: download nothing.
        against: folders of other prepared collections, in which to look for the same images and lesions.
        patience: see ``Patience``.
        workers: threads; as many as ``ThreadPoolExecutor`` takes if None.
        catalogue: the collections by name.
    """

    collection: str
    out_dir: str | Path
    sources: Sequence[str | Path] = ()
    splits: Sequence[str] | None = None
    mirrors: Sequence[str] = ()
    checksums: str | Path | None = None
    resize: int | None = None
    offline: bool = False
    against: Sequence[str | Path] = ()
    patience: Patience = Patience()
    workers: int | None = None
    catalogue: Mapping[str, Collection] = field(default_factory=lambda: CATALOGUE)


def prepare(settings: Settings) -> Preparation:
    """Prepare a collection in ``out_dir``.

    Besides what was unpacked, the folder gets ``lesions.csv`` (a row for each image, for ``CsvLesionDataset``),
    ``<collection>.py`` (a config that trains on it), ``leaks.csv``, ``preparation.json`` and ``preparation.txt`` (the
    report), ``checksums.sha256``, and ``prints.npz``, by which other collections are compared with it.

    Returns:
        the report. Faults of single images and labels are its ``problems``, and raise nothing.

    Raises:
        MissingFile: if an archive is missing and nothing may be downloaded.
        Mistake: if an archive is wrong, damaged or harmful, or cannot be downloaded; if a setting makes no sense, the
            disk is full, or another process prepares the same folder.
    """
    collection, splits = check_settings(settings)
    out_dir = Path(settings.out_dir)
    given = read_checksums(settings.checksums) if settings.checksums else {}
    wanted = [archive for archive in collection.archives if archive.split in splits]
    archives = find_archives(settings, wanted, given)
    refuse_foreign(out_dir, settings.collection, f'{NAME}.json')
    if settings.resize:
        refuse_foreign(copy_folder(out_dir, settings.resize), settings.collection, SIZES_FILE)
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out_dir / '.preparation.lock', timeout=0):
            done = read_preparation(out_dir)
            if done.collection not in ('', settings.collection):
                raise Mistake(f'{out_dir} holds {done.collection}; give {settings.collection} a folder of its own')
            done.collection, done.counts = settings.collection, {**collection.counts}
            get_archives(settings, collection, archives, done)
            unpack_archives(out_dir, archives, done)
            rows = check_splits(out_dir, collection, splits, done.splits, settings.workers)
            compare(settings, collection, rows, done)
            write_outputs(out_dir, settings.collection, collection, rows, done.leaks)
            done.write(out_dir)
            if settings.resize and not any(record.check.problems for record in done.splits.values()):
                make_copy(settings, collection, rows, settings.resize, done)
                done.write(out_dir)
    except Timeout as error:
        raise Mistake(f'another process is preparing {out_dir}; wait until it is done') from error
    return done


def check_settings(settings: Settings) -> tuple[Collection, list[str]]:
    """The collection and its splits that are wanted, after a check of all that can be wrong beforehand."""
    if settings.collection not in settings.catalogue:
        raise Mistake(f'{settings.collection} is not known; give {", ".join(settings.catalogue)}')
    collection = settings.catalogue[settings.collection]
    splits = [*(settings.splits or collection.splits)]
    if unknown := {*splits} - {*collection.splits}:
        raise Mistake(
            f'{settings.collection} has no archives of {", ".join(sorted(unknown))}; '
            f'give {", ".join(collection.splits)}, or leave out --splits'
        )
    if settings.resize is not None and not 1 <= settings.resize <= MAX_PIXELS**0.5:
        raise Mistake(f'resize={settings.resize}: give the pixels of the sides of the copies, such as 256')
    if settings.workers is not None and settings.workers < 1:
        raise Mistake(f'workers={settings.workers}: give one or more')
    if strange := [mirror for mirror in settings.mirrors if '://' not in mirror]:
        raise Mistake(f'mirror {strange[0]}: give an address, such as https://host/folder')
    return collection, splits


def find_archives(settings: Settings, wanted: Sequence[Archive], given: Mapping[str, str]) -> dict[Archive, Path]:
    """Where each archive is on disk, or is to be downloaded to; with the checksum that counts."""
    collection = settings.catalogue[settings.collection]
    names = {
        name: archive
        for archive in collection.archives
        for name in (archive.name, archive.unpacked_name, *archive.aliases)
    }
    located: dict[str, Path] = {}
    for source in map(Path, settings.sources):
        if not source.exists():
            raise MissingFile(f'{source}: no such archive or folder')
        is_archive = Path(os.path.abspath(source)).name in names
        paths = [source] if is_archive or source.is_file() else sorted(source.iterdir())
        named = {path: names[name] for path in paths if (name := Path(os.path.abspath(path)).name) in names}
        held = {path: kind for path, kind in named.items() if path.is_file() or (kind.is_zip and path.is_dir())}
        if not held:
            raise Mistake(
                f'{source} {"is" if source.is_file() else "holds"} none of the archives of {settings.collection}: '
                f'{", ".join(archive.name for archive in collection.archives)}'
            )
        for path, archive in held.items():  # the official one before what it became
            if archive.name not in located or path.name == archive.name or located[archive.name].suffix == '.rar':
                located[archive.name] = path
    if rars := [path for path in located.values() if path.suffix == '.rar']:
        raise Mistake(
            f'{rars[0]} is a RAR, which mmskin does not unpack; unpack it by 7-Zip, unar or bsdtar, and name the '
            f'folder {rars[0].stem}'
        )
    downloads = Path(settings.out_dir) / 'archives'
    archives = {}
    for archive in wanted:
        path = located.get(archive.name, downloads / archive.name)
        known = archive.checksum if path.name == archive.name else ''
        archives[replace(archive, checksum=given.get(path.name, given.get(archive.name, known)))] = path
    return archives


def check_splits(
    folder: Path,
    collection: Collection,
    splits: Sequence[str],
    records: dict[str, SplitRecord],
    workers: int | None = None,
) -> list[Row]:
    """Check the splits that have changed since they were checked, note it in ``records``, and return all rows."""
    every: list[Row] = []
    prints: dict[str, Print] = {}
    for split in [name for name in collection.splits if name in splits or name in records]:
        rows, check = read_rows_of(collection, folder, split)
        every += rows
        state = state_of(folder, rows, check)
        kept = read_prints(folder, rows)
        if split in records and records[split].fingerprint == state and len(kept) == len(records[split].check.sizes):
            prints |= kept
            continue
        title = f'checking {len(rows)} images of {folder.name}, {split}'
        prints |= check_files(folder, rows, check, title, workers)
        records[split] = SplitRecord(state, check)
    write_prints(folder, prints)
    return every


def compare(settings: Settings, collection: Collection, rows: list[Row], done: Preparation) -> None:
    """Deal the splits that a collection lacks, and look for leaks, unless nothing has changed since."""
    out_dir, against = Path(settings.out_dir), [*map(Path, settings.against)]
    known = [record.fingerprint for record in done.splits.values()]
    known += [
        f'{path} {(path / "prints.npz").stat().st_mtime_ns}' for path in against if (path / 'prints.npz').is_file()
    ]
    state = hashlib.sha256(repr(known).encode()).hexdigest()
    if done.compared == state and len(known) == len(done.splits) + len(against):
        for row in rows:
            row['split'] = done.parts.get(row['image_id'], row['split'])
        return
    prints = read_prints(out_dir, rows)
    with Console(stderr=True).status(f'comparing {len(rows)} images'):
        if collection.dealt and any(row['split'] == 'train' for row in rows):
            pool = [row for row in rows if row['split'] == 'train']
            deal(rows, prints, collection.dealt)
            done.parts = {row['image_id']: row['split'] for row in pool}
        done.leaks = find_leaks(rows, prints, against)
    done.compared = state


def write_outputs(folder: Path, name: str, collection: Collection, rows: Sequence[Row], leaks: Sequence[Leak]) -> None:
    """Write the table, the leaks, and a config that trains on it."""
    write_table(folder, rows)
    write_csv(folder / 'leaks.csv', [[*Leak.__annotations__], *(asdict(leak).values() for leak in leaks)])
    has_masks, has_classes = any(row['mask'] for row in rows), bool(collection.classes)
    dropped: tuple[str, ...] = () if has_masks else ('mask_', 'Segmentation', 'Contour')
    dropped += () if has_classes else ('label', 'Classif', 'classes')
    lines = [line for line in CONFIG.splitlines() if not any(word in line for word in dropped)]
    exclude = {
        split: sorted({leak.image_id for leak in leaks if leaves(leak, split)}) for split in ('train', 'val', 'test')
    }
    text = Template('\n'.join(lines) + '\n').substitute(
        name=name,
        command=f'mmskin train {(folder / name).as_posix()}.py',
        base='fpm' if has_masks and has_classes else 'segmentation' if has_masks else 'classification',
        root=repr(str(folder)),
        exclude=repr(exclude),
        classes=repr(collection.classes),
        count=len(collection.classes),
    )
    write_unless_edited(folder / f'{name}.py', text)


def leaves(leak: Leak, split: str) -> bool:
    """Whether an image leaves a split because a later one, or another collection's validation or test, has it."""
    later = ('train', 'val', 'test').index(leak.other_split) > ('train', 'val', 'test').index(split)
    return leak.split == split and (later if not leak.other else split == 'train' and later)


def refuse_foreign(folder: Path, name: str, mark: str) -> None:
    """Raise Mistake if a folder without ``mark``, which a preparation leaves, has a file that it would replace."""
    files = [folder / file for file in (TABLE, PRINTS, 'leaks.csv', f'{name}.py', f'{NAME}.txt', SUMS_FILE)]
    if not (folder / mark).is_file() and (there := [file for file in files if os.path.lexists(file)]):
        raise Mistake(
            f'{there[0]} was not written by mmskin prepare, and would be replaced; move it, or name another --out'
        )


def copy_folder(data_root: Path, size: int) -> Path:
    """Where the smaller copy goes: next to the folder."""
    named = data_root if data_root.name not in ('', '..') else data_root.resolve()
    return named.with_name(f'{named.name}_{size}')


def make_copy(settings: Settings, collection: Collection, rows: Sequence[Row], size: int, done: Preparation) -> None:
    """Write the smaller copy with the originals' sizes, and check it as the originals are.

    Images and masks are each squashed to a square: the networks of mmskin see one in any case, and read a small image
    many times faster. Images keep their format and are averaged over areas; masks take the nearest pixel. Files that
    are newer than their originals are left as they are. What no row names, such as superpixels, is left out.
    """
    data_root = Path(settings.out_dir)
    out_dir = copy_folder(data_root, size)
    if done.copy != str(out_dir):
        done.copy, done.copied_splits = str(out_dir), {}
    copies: dict[Path, Callable[[Path], bytes]] = {}
    for place in (data_root / archive.unpacked_name for archive in collection.archives):
        inside = [path for path in (place.rglob('*') if place.is_dir() else [place]) if path.suffix in TABLES]
        copies |= dict.fromkeys((path for path in inside if path.is_file()), Path.read_bytes)
    for row in rows:
        copies[data_root / row['image']] = partial(resized, size=size)
        masks = (data_root / row[name] for name in MASKS if row[name])
        copies |= dict.fromkeys(masks, partial(resized, size=size, is_mask=True))
    targets = {path: out_dir / path.relative_to(data_root) for path in copies}
    for folder in {target.parent for target in targets.values()}:
        refuse_links(folder, out_dir)
    missing = [
        (source, target)
        for source, target in targets.items()
        if target.is_symlink() or not target.exists() or target.stat().st_mtime < source.stat().st_mtime
    ]
    with ThreadPoolExecutor(settings.workers) as pool:  # OpenCV works outside Python's lock
        written = pool.map(lambda pair: write_whole(pair[1], copies[pair[0]](pair[0])), missing)
        title = f'resizing {len(missing)} files to {size} pixels'
        deque(track(written, title, len(missing), transient=True, console=Console(stderr=True)), maxlen=0)
    sizes = {image_id: pair for record in done.splits.values() for image_id, pair in record.check.sizes.items()}
    table = ((image_id, *pair) for image_id, pair in sorted(sizes.items()))
    write_csv(out_dir / SIZES_FILE, [('image_id', 'width', 'height'), *table])
    check_splits(out_dir, collection, [*done.splits], done.copied_splits, settings.workers)
    write_outputs(out_dir, settings.collection, collection, rows, done.leaks)


def get_archives(settings: Settings, collection: Collection, archives: dict[Archive, Path], done: Preparation) -> None:
    """Verify the archives that are there, and download the others, unless they are unpacked already.

    Optional ones that are not there are taken out of ``archives`` where nothing is downloaded.
    """
    out_dir = Path(settings.out_dir)
    absent = [
        archive for archive, path in archives.items() if not path.exists() and not is_unpacked(out_dir, archive, done)
    ]
    nowhere = [archive for archive in absent if settings.offline or not addresses(settings, archive)]
    for archive in [archive for archive in nowhere if archive.is_optional]:
        absent.remove(archive)
        del archives[archive]
    if needed := [archive for archive in nowhere if not archive.is_optional]:
        sizes = {archive.name: f' ({archive.megabytes:g} MB)' if archive.megabytes else '' for archive in needed}
        names = ', '.join(f'{name}{size}' for name, size in sizes.items())
        raise MissingFile(f'{names} missing; name them, or a folder that holds them. They are at {collection.page}')
    if absent:
        folder = archives[absent[0]].parent
        refuse_links(folder, out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        check_room(settings, {archive: archives[archive] for archive in absent})
    for archive, path in archives.items():
        if archive in absent:
            with byte_progress(archive.name) as report:
                urls, check = addresses(settings, archive), partial(verify, archive=archive)
                advice = f', name another address by --mirror, or put the file into {path.parent} yourself'
                most = int(2e6 * archive.megabytes) if archive.megabytes else None  # what is stated is rounded
                source, sha256 = download(urls, path, check, settings.patience, report, advice, most)
        elif path.exists() and not is_known(path, archive, done):
            with Console(stderr=True).status(f'verifying {archive.name}'):
                source, sha256 = str(path), verify(path, archive)
        else:
            continue
        record = ArchiveRecord(source, *size_and_time(path), sha256, archive.checksum)
        done.archives[archive.name] = record
        done.write(out_dir)
    write_checksums(out_dir / SUMS_FILE, {name: record.sha256 for name, record in done.archives.items()})


def size_and_time(path: Path) -> tuple[int, float]:
    """Bytes and the time of change of a file, or of all files of a folder."""
    files = [path] if path.is_file() else path.rglob('*')
    states = [file.stat() for file in files if file.is_file()]
    return sum(state.st_size for state in states), max((state.st_mtime for state in states), default=0.0)


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
    known = done.archives.get(archive.name)
    if known is None or (known.bytes, known.modified) != size_and_time(path):
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
    folders = (*settings.mirrors, *settings.catalogue[settings.collection].folders)
    own = [archive.address] if archive.address else []
    return [*(f'{folder.rstrip("/")}/{archive.name}' for folder in folders), *own]


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


def resized(path: Path, size: int, is_mask: bool = False) -> bytes:
    """An upright image, or a mask of 0 and 255, at ``size`` x ``size`` pixels in its file's format."""
    if is_mask:
        pixels: np.ndarray = read_mask(path) * np.uint8(255)
        method = cv2.INTER_NEAREST_EXACT  # plain INTER_NEAREST would shift the mask by half a pixel
    else:
        pixels = cv2.cvtColor(read_image(path)[0], cv2.COLOR_RGB2BGR)
        method = cv2.INTER_AREA if min(pixels.shape[:2]) > size else cv2.INTER_LINEAR
    suffix = path.suffix.lower()
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix in ('.jpg', '.jpeg') else []
    return cv2.imencode(suffix, cv2.resize(pixels, (size, size), interpolation=method), options)[1].tobytes()
