"""The official archives of ISIC-2017: their names and hashes, verifying them, and unpacking what may be harmful."""

import hashlib
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmskin.errors import MissingFile, Mistake
from mmskin.files import refuse_links, write_text

MIRRORS = (
    'https://isic-archive.s3.amazonaws.com/challenges/2017/',
    'https://isic-challenge-data.s3.amazonaws.com/2017/',
)
ALGORITHMS = {32: 'md5', 40: 'sha1', 64: 'sha256', 128: 'sha512'}  # by the number of hexadecimal digits
BLOCK = 1 << 20
MAX_GROWTH = 20  # times; images are compressed already, and the official archives grow by a few per cent
FREE_GROWTH = 100 << 20  # bytes that any archive may unpack to
MAX_MEMBERS = 100_000


@dataclass(frozen=True)
class Archive:
    """One file of the challenge: a zip, or a table that is taken as it is.

    Attributes:
        name: the file's.
        split: 'train', 'val' or 'test'.
        checksum: hexadecimal; '' where none is known.
    """

    name: str
    split: str
    checksum: str = ''

    @property
    def is_zip(self) -> bool:
        """Whether it is unpacked to a folder of its name."""
        return self.name.endswith('.zip')

    @property
    def unpacked_name(self) -> str:
        """The name of what it holds in the official layout."""
        return self.name.removesuffix('.zip')


# The MD5 sums are those of several public downloaders, which agree. Two were confirmed: copies of the training and the
# validation table have them, once their lines end as Windows ends lines.
ARCHIVES = (
    Archive('ISIC-2017_Training_Data.zip', 'train', 'a14a7e622c67a358797ae59abb8a0b0c'),
    Archive('ISIC-2017_Training_Part1_GroundTruth.zip', 'train', '77fdbeb6fbec4139937224416b250f4c'),
    Archive('ISIC-2017_Training_Part3_GroundTruth.csv', 'train', '0cb4add57c65c22ca1a1cb469ad1f0c5'),
    Archive('ISIC-2017_Validation_Data.zip', 'val', '8d6419d942112f709894c0d82f6c9038'),
    Archive('ISIC-2017_Validation_Part1_GroundTruth.zip', 'val', '64d3e68fa2deeb8a5e89aa8dec2efd44'),
    Archive('ISIC-2017_Validation_Part3_GroundTruth.csv', 'val', '8d4826a76adcd8fb928ca52a23ebae4c'),
    Archive('ISIC-2017_Test_v2_Data.zip', 'test', '5f6a0b5e1f2972bd1f5ea02680489f09'),
    Archive('ISIC-2017_Test_v2_Part1_GroundTruth.zip', 'test', 'b1742de6bd257faca3b2b21a4aa3b781'),
    Archive('ISIC-2017_Test_v2_Part3_GroundTruth.csv', 'test', '9e957b72a0c4f9e0d924889fd03b36ed'),
)


def read_checksums(path: str | Path) -> dict[str, str]:
    """The checksums by file name in a list as ``md5sum`` or ``sha256sum`` writes it.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if a line is no checksum and name, or the file no text in UTF-8.
    """
    if not Path(path).is_file():
        raise MissingFile(f'{path}: no such list of checksums; write one by sha256sum *.zip *.csv.')
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise Mistake(f'{path} is no text in UTF-8 ({error}); save it so.') from error
    sums = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith('#'):
            match = re.fullmatch(r'([0-9a-fA-F]+)\s+\*?(.+?)\s*', line)
            if not match or len(match[1]) not in ALGORITHMS:
                raise Mistake(f'{path}, line {number}: {line!r} is no checksum and file name as md5sum writes them.')
            sums[Path(match[2]).name] = match[1].lower()
    return sums


def write_checksums(path: Path, sums: Mapping[str, str]) -> None:
    """Write a list that ``read_checksums`` and ``sha256sum --check`` read."""
    write_text(path, ''.join(f'{value}  {name}\n' for name, value in sorted(sums.items())))


def verify(path: Path, archive: Archive) -> str:
    """Check the file's hash, or its kind where no hash is known.

    Returns:
        the SHA-256, hexadecimal.

    Raises:
        Mistake: if the hash is another one, or the file is no zip or table.
    """
    if archive.is_zip and not zipfile.is_zipfile(path):
        raise Mistake(f'{path} is no complete zip archive; it has {path.stat().st_size} bytes.')
    algorithm = ALGORITHMS[len(archive.checksum)] if archive.checksum else 'sha256'
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in ('sha256', algorithm)}
    with path.open('rb') as file:
        if not archive.is_zip and b'image_id' not in file.read(256):
            raise Mistake(f'{path} is no table with a column image_id.')
        file.seek(0)
        while block := file.read(BLOCK):
            for state in hashes.values():
                state.update(block)
    actual = hashes[algorithm].hexdigest()
    if archive.checksum and actual != archive.checksum:
        raise Mistake(
            f'{path} has the {algorithm} {actual} and should have {archive.checksum}; '
            'get it again, or give the sum that you trust by --checksums.'
        )
    return hashes['sha256'].hexdigest()


def unpack(archive: Path, folder: Path, report: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Unpack an archive's files into ``folder``, less the one folder that they may all be in.

    Everything is checked before anything is written. A file appears under its name when it is complete, so files that
    are there with the right size and checksum are skipped. Hidden files and ``__MACOSX`` are left out.

    Args:
        archive: a zip file.
        folder: made if it is not there.
        report: is given the bytes unpacked so far, and all.

    Returns:
        how many files the archive holds.

    Raises:
        Mistake: if it is no zip, damaged or encrypted, unpacks to too much, or holds a file outside its folder, a
            link, or two of the same name; if a folder below ``folder`` is a link, or the disk has no room for it.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = safe_members(archive, file.infolist())
            for place in {(folder / name).parent for name in members}:
                refuse_links(place, folder)
            missing = {name: info for name, info in members.items() if not is_there(folder / name, info)}
            total = sum(info.file_size for info in members.values())
            lacking = sum(info.file_size for info in missing.values())
            need_space(folder, lacking, f'unpacking {archive.name}')
            for name, info in missing.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                unfinished = target.with_name('.unpacking.part')
                unfinished.unlink(missing_ok=True)  # an interrupted run's, or a link
                with file.open(info) as source, unfinished.open('xb') as sink:  # the checksum is compared at the end
                    shutil.copyfileobj(source, sink, BLOCK)
                unfinished.replace(target)
                lacking -= info.file_size
                report(total - lacking, total)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise Mistake(f'{archive} is damaged ({error}); delete it and run again to download it anew.') from error
    return len(members)


def safe_members(archive: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by their place below the folder, after all checks; see ``unpack``."""
    # zipfile reads no more of a file than its entry says, so that the entries' sizes can be trusted
    total, most = sum(info.file_size for info in infos), max(FREE_GROWTH, MAX_GROWTH * archive.stat().st_size)
    if total > most or len(infos) > MAX_MEMBERS:
        raise Mistake(
            f'{archive} is refused: it would unpack to {len(infos)} files of {total} bytes in all, '
            f'and no more than {MAX_MEMBERS} files and {most} bytes are expected of an archive of its size.'
        )
    refused = f'{archive} is refused, and nothing of it was unpacked:'
    files = {}
    for info in infos:
        path = PurePosixPath(info.filename)
        if fault := fault_of(info, path):
            raise Mistake(f'{refused} {info.filename!r} {fault}.')
        is_litter = any(part.startswith('.') or part == '__MACOSX' for part in path.parts)
        if not info.is_dir() and not is_litter:
            files[info] = path
    shares_top = len({path.parts[0] for path in files.values()}) == 1
    if shares_top and all(len(path.parts) > 1 for path in files.values()):
        files = {info: PurePosixPath(*path.parts[1:]) for info, path in files.items()}
    members: dict[str, zipfile.ZipInfo] = {}
    for info, path in files.items():
        if members.setdefault(str(path), info) is not info:
            raise Mistake(f'{refused} it holds {str(path)!r} twice.')
    return members


def fault_of(info: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """What is wrong with an entry, or ''."""
    if not path.parts and not info.filename.endswith('/'):  # `./` is the folder itself
        return 'has no name'
    if path.is_absolute() or '..' in path.parts or '\\' in info.filename or re.match('[A-Za-z]:', info.filename):
        return 'lies outside the folder'
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return 'is a link or a device'
    return 'is encrypted' if info.flag_bits & 1 else ''


def is_there(path: Path, info: zipfile.ZipInfo) -> bool:
    """Whether an earlier run has unpacked the file, and nothing has happened to it since."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size != info.file_size:
        return False
    checksum = 0
    with path.open('rb') as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum == info.CRC


def need_space(folder: Path, size: int, purpose: str) -> None:
    """Raise Mistake if the disk that ``folder`` is or will be on lacks room for ``size`` bytes."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise Mistake(
            f'{purpose} takes {size / 1e9:.1f} GB, and the disk of {existing} has {free / 1e9:.1f} GB free; '
            'make room, or name a folder on another disk.'
        )
