"""The table of a prepared collection: its rows, the check of their files, the splits that are dealt, and leaks."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from rich.console import Console
from rich.progress import track

from mmskin.datasets.duplicates import Print, find_pairs, fingerprint
from mmskin.datasets.folds import assign_folds
from mmskin.datasets.preparation.catalogue import ATTRIBUTES, FACTS, Collection
from mmskin.datasets.preparation.record import Leak, SplitCheck
from mmskin.datasets.task_dataset import listed
from mmskin.datasets.transforms.loading import LoadImage, LoadMask
from mmskin.errors import MissingFile, MissingLibrary, Mistake
from mmskin.files import csv_line, read_csv, whole_file, write_unless_edited

TABLE, PRINTS = 'lesions.csv', 'prints.npz'
MASKS = ('mask', *ATTRIBUTES)
COLUMNS = ('image_id', 'split', 'image', *MASKS, *FACTS)
FOLDS = 10  # of which one each is a split that is dealt
Row = dict[str, str]


def read_rows_of(collection: Collection, folder: Path, split: str) -> tuple[list[Row], SplitCheck]:
    """The rows of a split with the paths of their files below ``folder``, and what is wrong or lacking so far."""
    check = SplitCheck()
    try:
        reading = collection.read(folder, split)
    except MissingLibrary:
        raise
    except (FileNotFoundError, ValueError) as error:
        check.problems.append(str(error))
        return [], check
    check.problems += reading.problems
    images = reading.images
    named = {f'{name} files': masks.keys() for name, masks in reading.masks.items()}
    for what, ids in {'a table': reading.facts.keys(), **named}.items():
        if strays := ids - images.keys():
            check.problems.append(f'{listed(strays)} of {split} in {what} but without an image; add the images')
    rows = []
    for image_id, path in sorted(images.items()):
        row = dict.fromkeys(COLUMNS, '') | dict(image_id=image_id, split=split) | reading.facts.get(image_id, {})
        files = {'image': path, **{name: masks[image_id] for name, masks in reading.masks.items() if image_id in masks}}
        rows.append(row | {name: file.relative_to(folder).as_posix() for name, file in files.items()})
    if collection.classes:
        check.problems += [
            f'{row.get("where", row["image_id"])}: the diagnosis is {row["diagnosis"]!r}, and the classes are '
            f'{", ".join(collection.classes)}; correct it'
            for row in rows
            if row['diagnosis'] not in ('', *collection.classes)
        ]
    needed = [*(['diagnosis'] if collection.classes else []), *reading.masks]
    for column in needed:
        if lacking := {row['image_id'] for row in rows if not row[column]}:
            check.notes.append(f'without {column}: {listed(lacking)}')
    check.images = len(rows)
    counts = Counter(row['diagnosis'] for row in rows)
    check.classes = {name: counts[name] for name in collection.classes}
    return rows, check


def state_of(folder: Path, rows: Sequence[Row], check: SplitCheck) -> str:
    """A hash of what rows say and of their files' sizes and times, by which it is known whether they have changed."""
    digest = hashlib.sha256(repr([check.problems, check.notes]).encode())
    for row in rows:
        digest.update(repr(sorted(row.items())).encode())
        for name in ('image', *MASKS):
            if row[name] and (folder / row[name]).is_file():
                state = (folder / row[name]).stat()
                digest.update(f'{state.st_size} {state.st_mtime_ns}\n'.encode())
    return digest.hexdigest()


def check_files(
    folder: Path, rows: Sequence[Row], check: SplitCheck, title: str, workers: int | None = None
) -> dict[str, Print]:
    """Read every image and mask in full, in ``workers`` threads: OpenCV decodes outside Python's lock.

    Returns:
        what duplicates are found by, of the images that can be read, by id; ``check`` is completed.
    """

    def load(row: Row) -> tuple[dict, Print | None, str]:
        path = folder / row['image']
        masks = {name: [str(folder / row[name])] for name in MASKS if row[name]}
        try:
            results = LoadImage().transform(dict(img_path=str(path), mask_paths=masks))
            looks = fingerprint(row['split'], path, results['img'])
            return LoadMask().transform(results), looks, ''
        except (FileNotFoundError, ValueError) as error:
            return {}, None, str(error)

    prints: dict[str, Print] = {}
    with ThreadPoolExecutor(workers) as pool:
        loaded = track(pool.map(load, rows), title, len(rows), transient=True, console=Console(stderr=True))
        for row, (results, looks, problem) in zip(rows, loaded, strict=True):
            if looks is None:
                check.problems.append(problem)
                continue
            height, width = results['ori_shape']
            check.sizes[row['image_id']] = (width, height)
            prints[row['image_id']] = looks
            if row['mask'] and not results['mask'].any():
                check.without_lesion.append(row['image_id'])
    return prints


def write_prints(folder: Path, prints: Mapping[str, Print]) -> None:
    """Keep what images are compared by; half precision is exact to a thousandth."""
    with whole_file(folder / PRINTS) as file:
        np.savez(
            file,
            image_id=np.array([*prints], str),
            split=np.array([image.split for image in prints.values()], str),
            digest=np.array([image.digest for image in prints.values()], str),
            detail=np.array([image.detail for image in prints.values()], np.float16),
        )


def read_prints(folder: Path, rows: Iterable[Row]) -> dict[str, Print]:
    """What ``write_prints`` kept of these rows, by id; nothing if it is missing or damaged."""
    try:
        with np.load(folder / PRINTS, allow_pickle=False) as kept:
            details = kept['detail'].astype(np.float32)
            known = dict(
                zip(kept['image_id'].tolist(), zip(kept['digest'].tolist(), details, strict=True), strict=True)
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return {}
    paths = {row['image_id']: (row['split'], folder / row['image']) for row in rows}
    return {image_id: Print(*paths[image_id], *known[image_id]) for image_id in paths if image_id in known}


def deal(rows: Sequence[Row], prints: Mapping[str, Print], dealt: Sequence[str]) -> None:
    """Give training images to the splits ``dealt``, a tenth each; a lesion, and what looks the same, stays together."""
    pool = [row for row in rows if row['split'] == 'train']
    named = [image._replace(split=image_id) for image_id, image in prints.items() if image.split == 'train']
    alike = find_pairs({'these': named, 'each other': named}) if named else []
    first: dict[str, str] = {}
    lesions = [
        (row['image_id'], first.setdefault(row['lesion_id'], row['image_id'])) for row in pool if row['lesion_id']
    ]
    classes = {name: number for number, name in enumerate(sorted({row['diagnosis'] for row in pool}))}
    samples = [dict(image_id=row['image_id'], gt_label=classes[row['diagnosis']]) for row in pool]
    count = min(FOLDS, max(Counter(row['diagnosis'] for row in pool).values()))  # of a small set, fewer and larger ones
    try:
        folds = assign_folds(samples, count, [[(pair.one.split, pair.other.split) for pair in alike], lesions])
    except Mistake as error:
        raise Mistake(
            f'{len(pool)} images are too few for a split into train, {" and ".join(dealt)} ({error})'
        ) from error
    for row in pool:
        row['split'] = dict(enumerate(dealt)).get(folds[row['image_id']][0], 'train')


def find_leaks(rows: Sequence[Row], prints: Mapping[str, Print], against: Sequence[Path]) -> list[Leak]:
    """Images of one lesion, or that show the same, in two splits, and in other collections that were prepared."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row['split'], []).append(row)
    sides = [('', parts[one], parts[other], dict(prints)) for one, other in combinations(parts, 2)]
    for other in against:
        if not (other / TABLE).is_file():
            raise MissingFile(f'{other} has no {TABLE}; name a folder that mmskin prepare wrote')
        theirs = read_csv(other / TABLE)
        if not (known := read_prints(other, theirs)):
            raise MissingFile(f'{other} has no {PRINTS} of its images; run mmskin prepare on it again')
        sides.append((str(other), [*rows], theirs, known))
    leaks: dict[tuple[str, str, str], Leak] = {}
    for name, ours, theirs, known in sides:
        splits = {row['image_id']: row['split'] for row in theirs}
        mine = {row['image_id']: row for row in ours}
        left = [prints[image_id]._replace(split=image_id) for image_id in mine if image_id in prints]
        right = [known[image_id]._replace(split=image_id) for image_id in splits if image_id in known]
        shared = [
            (pair.kind, f'{pair.distance:.4f}', pair.one.split, pair.other.split)
            for pair in (find_pairs({'ours': left, 'theirs': right}) if left and right else [])
        ]
        for kind, key in (
            ('same image', lambda row: row['image_id'].removesuffix('_downsampled')),  # ISIC 2019 made some smaller
            ('same lesion', lambda row: row['lesion_id']),
        ):
            groups: dict[str, list[str]] = {}
            for row in theirs:
                groups.setdefault(key(row), []).append(row['image_id'])
            shared += [
                (kind, '', image_id, other_id)
                for image_id, row in mine.items()
                if key(row)
                for other_id in groups.get(key(row), [])
            ]
        for kind, distance, image_id, other_id in shared:
            leak = Leak(kind, distance, mine[image_id]['split'], image_id, name, splits[other_id], other_id)
            leaks.setdefault((image_id, name, other_id), leak)
    return [*leaks.values()]


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write the table, from which ``CsvLesionDataset`` reads; it has attributes where the collection has."""
    columns = [column for column in COLUMNS if column not in ATTRIBUTES or any(row[column] for row in rows)]
    lines = [columns, *([row[column] for column in columns] for row in rows)]
    write_unless_edited(folder / TABLE, ''.join(map(csv_line, lines)))
