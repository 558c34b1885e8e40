"""Unpacking zip archives that may be harmful, and going on where an interrupted unpacking stopped."""

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import reduce
from pathlib import Path, PurePosixPath

from mmskin.errors import Mistake
from mmskin.files import refuse_links

MAX_GROWTH = 20  # times; images are compressed already, and the official archives grow by a few per cent
FREE_GROWTH = 100 << 20  # bytes that any archive may unpack to
MAX_MEMBERS = 100_000
BLOCK = 1 << 20


def unpack(archive: Path, folder: Path, report: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Unpack an archive's files into ``folder``, less the one folder that they may all be in.

    Everything is checked before anything is written. A file appears under its name when it is complete, so files that
    are there with the right size and checksum are passed over. Hidden files and ``__MACOSX`` are left out.

    Args:
        archive: a zip file.
        folder: made if it is not there.
        report: is told the bytes that are unpacked, and those that there are.

    Returns:
        how many files the archive holds.

    Raises:
        ValueError: if it is no zip, damaged or encrypted, unpacks to too much, or holds a file outside its folder, a
            link, or two of the same name, or if a folder below ``folder`` is a link.
        OSError: if the disk has no room for it.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = safe_members(archive, file.infolist())
            for place in {(folder / name).parent for name in members}:
                refuse_links(place, folder)
            total = sum(info.file_size for info in members.values())
            missing = {name: info for name, info in members.items() if not is_there(folder / name, info)}
            need_space(folder, sum(info.file_size for info in missing.values()), f'unpacking {archive.name}')
            done = total - sum(info.file_size for info in missing.values())
            for name, info in missing.items():
                extract(file, info, folder / name)
                done += info.file_size
                report(done, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Mistake(f'{archive} is damaged ({error}); delete it and run again to download it anew.') from error
    return len(members)


def safe_members(archive: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by their place below the folder, after all checks; see ``unpack``."""
    check_size(archive, infos)
    for info in infos:
        if fault := fault_of(info):
            raise Mistake(f'{archive} is refused, and nothing of it was unpacked: {info.filename!r} {fault}.')
    files = [info for info in infos if not info.is_dir() and not is_litter(info.filename)]
    members: dict[str, zipfile.ZipInfo] = {}
    for info, name in zip(files, without_top([info.filename for info in files]), strict=True):
        if members.setdefault(name, info) is not info:
            raise Mistake(f'{archive} is refused, and nothing of it was unpacked: it holds {name!r} twice.')
    return members


def check_size(archive: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Refuse what would fill the disk; ``zipfile`` reads no more of a file than its entry says."""
    total, most = sum(info.file_size for info in infos), max(FREE_GROWTH, MAX_GROWTH * archive.stat().st_size)
    if total > most or len(infos) > MAX_MEMBERS:
        raise Mistake(
            f'{archive} is refused: it would unpack to {len(infos)} files of {total} bytes in all, '
            f'and no more than {MAX_MEMBERS} files and {most} bytes are expected of an archive of its size.'
        )


def fault_of(info: zipfile.ZipInfo) -> str:
    """What is wrong with an entry, or ''."""
    path, kind = PurePosixPath(info.filename), stat.S_IFMT(info.external_attr >> 16)
    if not path.parts and not info.filename.endswith('/'):  # `./` is the folder itself
        return 'has no name'
    if path.is_absolute() or '..' in path.parts or '\\' in info.filename or re.match('[A-Za-z]:', info.filename):
        return 'lies outside the folder'
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return 'is a link or a device'
    return 'is encrypted' if info.flag_bits & 1 else ''


def is_litter(name: str) -> bool:
    """Whether a file is hidden or macOS's own."""
    return any(part.startswith('.') or part == '__MACOSX' for part in PurePosixPath(name).parts)


def without_top(names: list[str]) -> list[str]:
    """The names, less the first folder if it is the same for all."""
    paths = [PurePosixPath(name) for name in names]
    shared = len({path.parts[0] for path in paths}) == 1 and all(len(path.parts) > 1 for path in paths)
    return [str(PurePosixPath(*path.parts[1:])) if shared else str(path) for path in paths]


def is_there(path: Path, info: zipfile.ZipInfo) -> bool:
    """Whether an earlier run has unpacked the file, and nothing has happened to it since."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != info.file_size:
        return False
    with path.open('rb') as file:
        return checksum(iter(lambda: file.read(BLOCK), b'')) == info.CRC


def checksum(blocks: Iterable[bytes]) -> int:
    """The CRC-32 that zip archives note of each file."""
    return reduce(lambda value, block: zlib.crc32(block, value), blocks, 0)


def extract(file: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """Write one file under another name, and rename it when it is complete and its checksum is right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name('.unpacking.part')
    unfinished.unlink(missing_ok=True)  # an interrupted run's, or a link
    with file.open(info) as source, unfinished.open('xb') as sink:
        shutil.copyfileobj(source, sink, BLOCK)
    unfinished.replace(target)


def need_space(folder: Path, size: int, purpose: str) -> None:
    """Raise Mistake if the disk that ``folder`` is or will be on lacks room for ``size`` bytes."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise Mistake(
            f'{purpose} takes {size / 1e9:.1f} GB, and the disk of {existing} has {free / 1e9:.1f} GB free; '
            'make room, or name a folder on another disk.'
        )
