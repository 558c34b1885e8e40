"""Official archives: their names and hashes, verifying them, and unpacking what may be harmful."""

import hashlib
import posixpath
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path, PurePath, PurePosixPath
from typing import IO

from mmskin.errors import MissingFile, Mistake
from mmskin.files import refuse_device, refuse_links, whole_file, write_text

ALGORITHMS = {32: 'md5', 40: 'sha1', 64: 'sha256', 128: 'sha512'}  # by the number of hexadecimal digits
BLOCK = 1 << 20
MAX_GROWTH = 20  # times; images are compressed already, and the official archives grow by a few per cent
FREE_GROWTH = 100 << 20  # bytes that any archive may unpack to
MAX_MEMBERS = 100_000


@dataclass(frozen=True)
class Archive:
    """One file of a collection: a zip or a folder of its contents, or a table that is taken as it is.

    Attributes:
        name: the official one, by which it is found on disk.
        split: 'train', 'val' or 'test'; those that are dealt by mmskin are in 'train'.
        holds: how files in a zip end, or a column of a table, by which another file under this name is refused.
        checksum: hexadecimal; '' where none is known.
        megabytes: about how large it is; 0 where that is unknown.
        address: its own, where it is not in a folder of the collection's.
        aliases: further names under which people have it; the checksum does not count for them.
        is_optional: whether one does without it offline.
    """

    name: str
    split: str
    holds: str
    checksum: str = ''
    megabytes: float = 0
    address: str = ''
    aliases: tuple[str, ...] = ()
    is_optional: bool = False

    @property
    def is_zip(self) -> bool:
        """Whether it is unpacked to a folder of its name."""
        return self.name.endswith('.zip')

    @property
    def unpacked_name(self) -> str:
        """The name of what it holds in the prepared folder."""
        return self.name.removesuffix('.zip')


def read_checksums(path: str | Path) -> dict[str, str]:
    """The checksums by file name in a list as ``md5sum`` or ``sha256sum`` writes it."""
    if not Path(path).is_file():
        raise MissingFile(f'{path}: no such list of checksums; write one by sha256sum *.zip *.csv')
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise Mistake(f'{path} is not UTF-8 text ({error}); save it so') from error
    sums = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith('#'):
            match = re.fullmatch(r'([0-9a-fA-F]+)\s+\*?(.+?)\s*', line)
            if not match or len(match[1]) not in ALGORITHMS:
                raise Mistake(
                    f'{path}, line {number}: {line!r} is not a checksum and a file name, as md5sum writes them'
                )
            sums[Path(match[2]).name] = match[1].lower()
    return sums


def write_checksums(path: Path, sums: Mapping[str, str]) -> None:
    """Write a list that ``read_checksums`` and ``sha256sum --check`` read."""
    write_text(path, ''.join(f'{value}  {name}\n' for name, value in sorted(sums.items())))


def verify(path: Path, archive: Archive) -> str:
    """Check the file's hash, and that it is of the archive's kind.

    Returns:
        the SHA-256, hexadecimal; of a folder, that of its files' names and contents.

    Raises:
        Mistake: if the hash is another one, the file is no zip or table, or it holds something else.
    """
    names: Sequence[str] = ()
    if path.is_dir():
        files = folder_members(path)
        names = [*files]
    elif archive.is_zip:
        if not zipfile.is_zipfile(path):
            raise Mistake(f'{path} is not a complete zip archive; it has {path.stat().st_size} bytes')
        with zipfile.ZipFile(path) as zipped:
            names = zipped.namelist()
    if archive.is_zip and not any(name.lower().endswith(archive.holds) for name in names):
        raise Mistake(f'{path} holds no file that ends in {archive.holds}; it is another archive than {archive.name}')
    if path.is_dir():
        sums = (f'{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n' for name, file in sorted(files.items()))
        return hashlib.sha256(''.join(sums).encode()).hexdigest()
    algorithm = ALGORITHMS[len(archive.checksum)] if archive.checksum else 'sha256'
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ('sha256', algorithm)}
    with path.open('rb') as file:
        if not archive.is_zip and archive.holds.encode() not in file.readline(4096):
            raise Mistake(f'{path} is not a table with a column {archive.holds}')
        file.seek(0)
        while block := file.read(BLOCK):
            for state in hashes.values():
                state.update(block)
    actual = hashes[algorithm].hexdigest()
    if archive.checksum and actual != archive.checksum:
        raise Mistake(
            f'{path} has the {algorithm} {actual} and should have {archive.checksum}; '
            'get it again, or give the sum that you trust by --checksums'
        )
    return hashes['sha256'].hexdigest()


def unpack(archive: Path, folder: Path, report: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Unpack an archive's files into ``folder``, less the folders that they all are in.

    Everything is checked before anything is written. A file appears under its name when it is complete, so files that
    are there with the right size and content are skipped. Hidden files and ``__MACOSX`` are left out.

    Args:
        archive: a zip file, or a folder that somebody else has unpacked one to.
        folder: made if it is not there.
        report: is given the bytes unpacked so far, and all.

    Returns:
        how many files the archive holds.

    Raises:
        Mistake: if it is no zip, damaged or encrypted, unpacks to too much, or holds a file outside its folder, a
            link, or two of the same name; if a folder below ``folder`` is a link, or the disk has no room for it.
    """
    try:
        with ExitStack() as stack:
            members: dict[str, tuple[int, Callable[[], IO[bytes]]]]
            if archive.is_dir():
                files = folder_members(archive)
                members = {name: (file.stat().st_size, partial(FileIO, file)) for name, file in files.items()}
            else:
                zipped = stack.enter_context(zipfile.ZipFile(archive))
                infos = safe_members(archive, zipped.infolist())
                members = {name: (info.file_size, partial(zipped.open, info)) for name, info in infos.items()}
            for place in {(folder / name).parent for name in members}:
                refuse_links(place, folder)
            missing = {}
            for name, (size, open_source) in members.items():
                there = folder / name
                is_same = there.is_file() and not there.is_symlink() and there.stat().st_size == size
                if is_same:
                    with open_source() as source:
                        is_same = source.read() == there.read_bytes()
                if not is_same:
                    missing[name] = size, open_source
            total = sum(size for size, _ in members.values())
            lacking = sum(size for size, _ in missing.values())
            need_space(folder, lacking, f'unpacking {archive.name}')
            for name, (size, open_source) in missing.items():
                # a zip compares its checksum at the end
                with open_source() as source, whole_file(folder / name) as sink:
                    shutil.copyfileobj(source, sink, BLOCK)
                lacking -= size
                report(total - lacking, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Mistake(f'{archive} is damaged ({error}); delete it and run again to download it again') from error
    return len(members)


def safe_members(archive: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by their place below the folder, after all checks; see ``unpack``."""
    # zipfile reads no more of a file than its entry says, so that the entries' sizes can be trusted
    total, most = sum(info.file_size for info in infos), max(FREE_GROWTH, MAX_GROWTH * archive.stat().st_size)
    if total > most or len(infos) > MAX_MEMBERS:
        raise Mistake(
            f'{archive} is refused: it would unpack to {len(infos)} files of {total} bytes in all, '
            f'and no more than {MAX_MEMBERS} files and {most} bytes are expected of an archive of its size'
        )
    refused = f'{archive} is refused, and nothing of it was unpacked:'
    files = {}
    for info in infos:
        path = PurePosixPath(info.filename)
        fault = ''
        if not path.parts and not info.filename.endswith('/'):  # `./` is the folder itself
            fault = 'has no name'
        elif path.is_absolute() or '..' in path.parts or '\\' in info.filename or re.match('[A-Za-z]:', info.filename):
            fault = 'lies outside the folder'
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = 'is a link or a device'
        elif info.flag_bits & 1:
            fault = 'is encrypted'
        if fault:
            raise Mistake(f'{refused} {info.filename!r} {fault}')
        if not info.is_dir() and not is_litter(path):
            files[info] = path
    members: dict[str, zipfile.ZipInfo] = {}
    for info, name in zip(files, without_shared_folders([*files.values()]), strict=True):
        if members.setdefault(name, info) is not info:
            raise Mistake(f'{refused} it holds {name!r} twice')
    for name in members:
        if members.keys() & {str(parent) for parent in PurePosixPath(name).parents}:
            raise Mistake(f'{refused} {name!r} lies in a file')
    return members


def folder_members(folder: Path) -> dict[str, Path]:
    """The files of a folder by their place below the folders that they all are in."""
    files = [path for path in sorted(folder.rglob('*')) if not path.is_dir() or path.is_symlink()]
    files = [path for path in files if not is_litter(path.relative_to(folder))]
    if links := [path for path in files if path.is_symlink()]:
        raise Mistake(f'{links[0]} is a link, which is not followed; copy the file there')
    for path in files:
        refuse_device(path)
    places = [PurePosixPath(path.relative_to(folder).as_posix()) for path in files]
    return dict(zip(without_shared_folders(places), files, strict=True))


def is_litter(path: PurePath) -> bool:
    """Whether it is hidden, or what a Mac adds to zips."""
    return any(part.startswith('.') or part == '__MACOSX' for part in path.parts)


def without_shared_folders(paths: Sequence[PurePosixPath]) -> list[str]:
    """The paths without the folders that all of them begin with."""
    shared = posixpath.commonpath([path.parent for path in paths]) if paths else ''
    return [str(path.relative_to(shared)) for path in paths]


def need_space(folder: Path, size: int, purpose: str) -> None:
    """Raise Mistake if the disk that ``folder`` is or will be on lacks room for ``size`` bytes."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise Mistake(
            f'{purpose} takes {size / 1e9:.1f} GB, and the disk of {existing} has {free / 1e9:.1f} GB free; '
            'make room, or name a folder on another disk'
        )
