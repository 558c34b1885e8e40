"""What a preparation did and found, as a file for programs and a text for people."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmskin.datasets.isic2017 import SPLITS
from mmskin.datasets.preparation.check import OFFICIAL_COUNTS, SplitCheck
from mmskin.files import write_text

NAME = 'preparation'
SHOWN = 20  # problems of one split in the text; the other file has all


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
    """A split as it was checked; ``fingerprint`` tells whether its files have changed since."""

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
        write_text(folder / f'{NAME}.json', json.dumps(asdict(self), indent=1))
        write_text(folder / f'{NAME}.txt', self.text())

    def text(self) -> str:
        """The report for people."""
        return '\n'.join(self.lines()) + '\n'

    def lines(self) -> Iterator[str]:
        """The text's lines."""
        for name, one in self.archives.items():
            yield f'{name:<42} {one.bytes / 1e6:9.1f} MB  {"hash as known" if one.checksum else "no hash known"}'
        for split, record in self.splits.items():
            yield from split_lines(split, record.check, OFFICIAL_COUNTS[split])
        for split, record in self.copied_splits.items():
            yield from split_lines(f'{split} of {self.copy}', record.check, OFFICIAL_COUNTS[split])
        count = len(self.problems)
        whole = all(one.check.images == OFFICIAL_COUNTS[split] for split, one in self.splits.items())
        order = 'everything is in order' if whole else "what is here is in order; the challenge's counts are others"
        yield f'{count} problem{"s" * (count != 1)} found' if count else order


def problems_of(splits: Mapping[str, SplitRecord]) -> list[str]:
    """What is wrong with some splits."""
    return [problem for one in splits.values() for problem in one.check.problems]


def read_preparation(folder: Path) -> Preparation:
    """What an earlier run left in a folder; nothing if there is none, or it cannot be read."""
    try:
        known = json.loads((folder / f'{NAME}.json').read_text(encoding='utf-8'))
        return Preparation(
            {name: ArchiveRecord(**one) for name, one in known['archives'].items()},
            {name: split_record(one) for name, one in known['splits'].items()},
            known['copy'],
            {name: split_record(one) for name, one in known['copied_splits'].items()},
        )
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return Preparation()


def split_record(known: dict) -> SplitRecord:
    """A split's record as the file has it."""
    check = SplitCheck(**known['check'])
    check.sizes = {image_id: (width, height) for image_id, (width, height) in check.sizes.items()}
    return SplitRecord(known['fingerprint'], check)


def split_lines(title: str, check: SplitCheck, official: int) -> Iterator[str]:
    """What is to be said of one split."""
    classes = ', '.join(f'{count} {name.replace("_", " ")}' for name, count in check.classes.items())
    yield f'{title}: {check.images} images ({classes}){size_range(check)}'
    if check.images and check.images != official:
        yield f'  the challenge has {official}'
    if check.without_lesion:
        yield f'  masks without a lesion: {", ".join(check.without_lesion[:SHOWN])}'
    yield from (f'  {problem}' for problem in check.problems[:SHOWN])
    if len(check.problems) > SHOWN:
        yield f'  and {len(check.problems) - SHOWN} more problems; {NAME}.json has all'


def size_range(check: SplitCheck) -> str:
    """The smallest and the largest image."""
    if not check.sizes:
        return ''
    by_area = sorted(check.sizes.values(), key=lambda size: size[0] * size[1])
    return ', {}x{} to {}x{} pixels'.format(*by_area[0], *by_area[-1])


def fingerprint(data_root: Path, split: str) -> str:
    """Changes when a file of the split is added, removed, or written again."""
    digest = hashlib.sha256()
    for path in sorted(data_root.glob(f'{SPLITS[split]}_*')) + sorted(data_root.glob(f'{SPLITS[split]}_*/*')):
        if path.is_file():
            digest.update(f'{path.relative_to(data_root)} {path.stat().st_size} {path.stat().st_mtime_ns}\n'.encode())
    return digest.hexdigest()
