"""What a preparation did and found: a record for programs and for people."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmskin.errors import Mistake
from mmskin.files import read_note, write_note, write_text

NAME = 'preparation'
SHOWN = 20  # problems or leaks of one split in the text; the other files have all


@dataclass
class SplitCheck:
    """What was found in a split.

    Attributes:
        images: how many there are.
        classes: how many of each class.
        sizes: width and height of each image that can be read, by id.
        without_lesion: ids of images whose mask is empty.
        notes: what images lack.
        problems: what is wrong, each naming the file and what to do.
    """

    images: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    without_lesion: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
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
class Leak:
    """An image that another split, or another collection, has as well.

    Attributes:
        kind: 'exact' or 'near' (see ``find_pairs``), 'same image' by its id, or 'same lesion' by that.
        distance: of an exact or near duplicate.
        split: of the image.
        image_id: the image's.
        other: the folder of the other collection; '' for this one.
        other_split: of the image there.
        other_id: its id.
    """

    kind: str
    distance: str
    split: str
    image_id: str
    other: str
    other_split: str
    other_id: str


@dataclass
class Preparation:
    """All that is known of a prepared folder; what is finished is not done again.

    Attributes:
        collection: which one it is.
        archives: by name.
        splits: by name.
        parts: the split of each image whose split was dealt.
        leaks: see ``Leak``.
        compared: what was dealt and compared, as a hash.
        copy: folder of the smaller copy, '' without one.
        copied_splits: the copy's splits by name.
        counts: how many images the collection has, by split.
    """

    collection: str = ''
    archives: dict[str, ArchiveRecord] = field(default_factory=dict)
    splits: dict[str, SplitRecord] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    leaks: list[Leak] = field(default_factory=list)
    compared: str = ''
    copy: str = ''
    copied_splits: dict[str, SplitRecord] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What is wrong with the data and its copy."""
        records = [*self.splits.values(), *self.copied_splits.values()]
        return [problem for record in records for problem in record.check.problems]

    def write(self, folder: Path) -> None:
        """Write ``preparation.json`` and ``preparation.txt``."""
        write_note(folder / f'{NAME}.json', asdict(self), indent=1)
        write_text(folder / f'{NAME}.txt', self.text())

    def text(self) -> str:
        """The report for people."""
        lines = [
            f'{name:<44} {archive.bytes / 1e6:9.1f} MB  {"hash as known" if archive.checksum else "no hash known"}'
            for name, archive in self.archives.items()
        ]
        for split, record in self.splits.items():
            lines += split_lines(split, record.check, self.counts[split])
        if self.parts:
            sizes = Counter(self.parts.values())
            lines.append(f'dealt by lesion: {", ".join(f"{split} {count}" for split, count in sizes.most_common())}')
        kinds = Counter((leak.kind, leak.other) for leak in self.leaks)
        for (kind, other), count in kinds.items():
            lines.append(f'leaks: {count} {kind} in {other or "another split"}; leaks.csv has all')
        for leak in self.leaks[:SHOWN]:
            place = f'{leak.other} {leak.other_split}'.strip()
            lines.append(f'  {leak.kind:<11} {leak.distance:>6}  {leak.split} {leak.image_id}  {place} {leak.other_id}')
        if self.compared and not self.leaks:
            lines.append('leaks: none found')
        for split, record in self.copied_splits.items():
            lines += split_lines(f'{split} of {self.copy}', record.check, self.counts[split])
        count = len(self.problems)
        if count:
            lines.append(f'{count} problem{"s" if count > 1 else ""} found')
        elif all(record.check.images == self.counts[split] for split, record in self.splits.items()):
            lines.append('everything is in order')
        else:
            lines.append("what is here is in order; the collection's counts are others")
        return '\n'.join(lines) + '\n'


def read_preparation(folder: Path) -> Preparation:
    """What an earlier run left in a folder; nothing if there is none, or it was changed."""
    try:
        known = read_note(folder / f'{NAME}.json')
        archives = {name: ArchiveRecord(**archive) for name, archive in known.pop('archives').items()}
        leaks = [Leak(**leak) for leak in known.pop('leaks')]
        records: dict[str, dict[str, SplitRecord]] = {'splits': {}, 'copied_splits': {}}
        for key, splits in records.items():
            for name, split in known.pop(key).items():
                check = SplitCheck(**split['check'])
                check.sizes = {image_id: (width, height) for image_id, (width, height) in check.sizes.items()}
                splits[name] = SplitRecord(split['fingerprint'], check)
        known |= records
        return Preparation(archives=archives, leaks=leaks, **known)
    except (Mistake, KeyError, TypeError):  # the latter of an earlier version's
        return Preparation()


def split_lines(title: str, check: SplitCheck, official: int) -> Iterator[str]:
    """The report on one split."""
    classes = ', '.join(f'{count} {name.replace("_", " ")}' for name, count in check.classes.items())
    sizes = ''
    if check.sizes:
        by_area = sorted(check.sizes.values(), key=lambda size: size[0] * size[1])
        sizes = ', {}x{} to {}x{} pixels'.format(*by_area[0], *by_area[-1])
    yield f'{title}: {check.images} images{f" ({classes})" if classes else ""}{sizes}'
    if check.images and check.images != official:
        yield f'  the collection has {official}'
    yield from (f'  {note}' for note in check.notes)
    if check.without_lesion:
        yield f'  masks without a lesion: {", ".join(check.without_lesion[:SHOWN])}'
    yield from (f'  {problem}' for problem in check.problems[:SHOWN])
    if len(check.problems) > SHOWN:
        yield f'  and {len(check.problems) - SHOWN} more problems; {NAME}.json has all'
