"""What a preparation did and found: the checks of its splits, and a record for programs and for people."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mmskin.datasets.isic2017 import SPLITS, ISIC2017Dataset
from mmskin.datasets.tables import CLASSES
from mmskin.datasets.transforms.loading import LoadImage, LoadMask
from mmskin.errors import Mistake
from mmskin.files import read_note, write_note, write_text

OFFICIAL_COUNTS = dict(train=2000, val=150, test=600)
NAME = 'preparation'
SHOWN = 20  # problems of one split in the text; the other file has all


@dataclass
class SplitCheck:
    """What was found in a split.

    Attributes:
        images: how many there are.
        classes: how many of each class.
        sizes: width and height of each image that can be read, by id.
        without_lesion: ids of images whose mask is empty.
        problems: what is wrong, each naming the file and what to do.
    """

    images: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    without_lesion: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class ArchiveRecord:
    """One archive that was taken in.

    Attributes:
        source: the address it came from, or the file.
        bytes: its size.
        modified: the file's time of change, by which it is known again.
        sha256: its hash as it was seen.
        checksum: which was known beforehand, and is the file's; '' if none was.
        files: how many were unpacked; None until it is done.
    """

    source: str
    bytes: int
    modified: float
    sha256: str
    checksum: str
    files: int | None = None


@dataclass
class SplitRecord:
    """A split as it was checked; another ``fingerprint`` means that its files have changed since."""

    fingerprint: str
    check: SplitCheck


@dataclass
class Preparation:
    """All that is known of a prepared folder; what is finished is not done again.

    Attributes:
        archives: by name.
        splits: by name.
        copy: folder of the smaller copy, '' without one.
        copied_splits: the copy's splits by name.
    """

    archives: dict[str, ArchiveRecord] = field(default_factory=dict)
    splits: dict[str, SplitRecord] = field(default_factory=dict)
    copy: str = ''
    copied_splits: dict[str, SplitRecord] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the data and its copy."""
        return problems_of(self.splits) + problems_of(self.copied_splits)

    def write(self, folder: Path) -> None:
        """Write ``preparation.json`` and ``preparation.txt``."""
        write_note(folder / f'{NAME}.json', asdict(self), indent=1)
        write_text(folder / f'{NAME}.txt', self.text())

    def text(self) -> str:
        """The report for people."""
        lines = [
            f'{name:<42} {archive.bytes / 1e6:9.1f} MB  {"hash as known" if archive.checksum else "no hash known"}'
            for name, archive in self.archives.items()
        ]
        for split, record in self.splits.items():
            lines += split_lines(split, record.check, OFFICIAL_COUNTS[split])
        for split, record in self.copied_splits.items():
            lines += split_lines(f'{split} of {self.copy}', record.check, OFFICIAL_COUNTS[split])
        count = len(self.problems)
        if count:
            lines.append(f'{count} problem{"s" if count > 1 else ""} found')
        elif all(record.check.images == OFFICIAL_COUNTS[split] for split, record in self.splits.items()):
            lines.append('everything is in order')
        else:
            lines.append("what is here is in order; the challenge's counts are others")
        return '\n'.join(lines) + '\n'


def read_preparation(folder: Path) -> Preparation:
    """What an earlier run left in a folder; nothing if there is none, or it was changed."""
    try:
        known = read_note(folder / f'{NAME}.json')
    except Mistake:
        return Preparation()
    archives = {name: ArchiveRecord(**archive) for name, archive in known['archives'].items()}
    splits = {name: split_record(split) for name, split in known['splits'].items()}
    copied_splits = {name: split_record(split) for name, split in known['copied_splits'].items()}
    return Preparation(archives, splits, known['copy'], copied_splits)


def split_record(known: dict) -> SplitRecord:
    """A split's record as the file has it."""
    check = SplitCheck(**known['check'])
    check.sizes = {image_id: (width, height) for image_id, (width, height) in check.sizes.items()}
    return SplitRecord(known['fingerprint'], check)


def problems_of(splits: Mapping[str, SplitRecord]) -> list[str]:
    """What is wrong with some splits."""
    return [problem for record in splits.values() for problem in record.check.problems]


def check_splits(
    data_root: Path, splits: Sequence[str], records: dict[str, SplitRecord], workers: int | None = None
) -> None:
    """Check the splits that have changed since they were checked, and note it in ``records``."""
    for split in splits:
        digest = hashlib.sha256()
        files = [*sorted(data_root.glob(f'{SPLITS[split]}_*')), *sorted(data_root.glob(f'{SPLITS[split]}_*/*'))]
        for path in files:
            if path.is_file():
                state = path.stat()
                digest.update(f'{path.relative_to(data_root)} {state.st_size} {state.st_mtime_ns}\n'.encode())
        if split not in records or records[split].fingerprint != digest.hexdigest():
            records[split] = SplitRecord(digest.hexdigest(), check_split(data_root, split, workers))


def check_split(data_root: Path, split: str, workers: int | None = None) -> SplitCheck:
    """Read every image and mask of a split in full, in ``workers`` threads: OpenCV decodes outside Python's lock."""
    try:
        dataset = ISIC2017Dataset(data_root, split)
    except (FileNotFoundError, ValueError) as error:
        return SplitCheck(problems=[str(error)])
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    counts = Counter(CLASSES[sample['gt_label']] for sample in samples)
    check = SplitCheck(len(samples), {name: counts[name] for name in CLASSES})
    with ThreadPoolExecutor(workers) as pool:
        title = f'checking {len(samples)} images of {data_root.name}, {SPLITS[split]}'
        loaded = track(pool.map(load, samples), title, len(samples), transient=True, console=Console(stderr=True))
        for sample, (size, has_lesion, problem) in zip(samples, loaded, strict=True):
            if problem:
                check.problems.append(problem)
            if size:
                check.sizes[sample['image_id']] = size
            if not has_lesion:
                check.without_lesion.append(sample['image_id'])
    return check


def load(sample: dict) -> tuple[tuple[int, int] | None, bool, str]:
    """The size of an image, whether its mask has a lesion, and what is wrong; read as training does."""
    try:
        results = LoadMask().transform(LoadImage().transform(dict(sample)))
    except (FileNotFoundError, ValueError) as error:
        return None, True, str(error)
    height, width = results['ori_shape']
    return (width, height), bool(results['gt_seg_map'].any()), ''


def split_lines(title: str, check: SplitCheck, official: int) -> Iterator[str]:
    """The report on one split."""
    classes = ', '.join(f'{count} {name.replace("_", " ")}' for name, count in check.classes.items())
    sizes = ''
    if check.sizes:
        by_area = sorted(check.sizes.values(), key=lambda size: size[0] * size[1])
        sizes = ', {}x{} to {}x{} pixels'.format(*by_area[0], *by_area[-1])
    yield f'{title}: {check.images} images ({classes}){sizes}'
    if check.images and check.images != official:
        yield f'  the challenge has {official}'
    if check.without_lesion:
        yield f'  masks without a lesion: {", ".join(check.without_lesion[:SHOWN])}'
    yield from (f'  {problem}' for problem in check.problems[:SHOWN])
    if len(check.problems) > SHOWN:
        yield f'  and {len(check.problems) - SHOWN} more problems; {NAME}.json has all'
