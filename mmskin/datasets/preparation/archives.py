"""The official archives of ISIC-2017: names, addresses, and the hashes that they should have."""

import hashlib
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mmskin.errors import MissingFile, Mistake
from mmskin.files import write_text

MIRRORS = (
    'https://isic-archive.s3.amazonaws.com/challenges/2017/',
    'https://isic-challenge-data.s3.amazonaws.com/2017/',
)
ALGORITHMS = {32: 'md5', 40: 'sha1', 64: 'sha256', 128: 'sha512'}  # by the number of hexadecimal digits
BLOCK = 1 << 20


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


# The MD5 sums stand in several public downloaders, which agree. Two were confirmed: copies of the training and the
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
    found = {}
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise Mistake(f'{path} is no text in UTF-8 ({error}); save it so.') from error
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith('#'):
            match = re.fullmatch(r'([0-9a-fA-F]+)\s+\*?(.+?)\s*', line)
            if not match or len(match[1]) not in ALGORITHMS:
                raise Mistake(f'{path}, line {number}: {line!r} is no checksum and file name as md5sum writes them.')
            found[Path(match[2]).name] = match[1].lower()
    return found


def write_checksums(path: Path, sums: Mapping[str, str]) -> None:
    """Write a list that ``read_checksums`` and ``sha256sum --check`` read."""
    write_text(path, ''.join(f'{value}  {name}\n' for name, value in sorted(sums.items())))


def digests(path: Path, algorithms: Collection[str]) -> dict[str, str]:
    """The file's hashes by algorithm, in one reading."""
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    with path.open('rb') as file:
        while block := file.read(BLOCK):
            for one in hashes.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}


def verify(path: Path, archive: Archive) -> str:
    """Check the file's hash, or its kind where no hash is known.

    Returns:
        the SHA-256, hexadecimal.

    Raises:
        Mistake: if the hash is another one, or the file is no zip or table.
    """
    if archive.is_zip and not zipfile.is_zipfile(path):
        raise Mistake(f'{path} is no complete zip archive; it has {path.stat().st_size} bytes.')
    if not archive.is_zip and b'image_id' not in first_bytes(path):
        raise Mistake(f'{path} is no table with a column image_id.')
    algorithm = ALGORITHMS[len(archive.checksum)] if archive.checksum else 'sha256'
    found = digests(path, {'sha256', algorithm})
    if archive.checksum and found[algorithm] != archive.checksum:
        raise Mistake(
            f'{path} has the {algorithm} {found[algorithm]} and should have {archive.checksum}; '
            'get it again, or give the sum that you trust by --checksums.'
        )
    return found['sha256']


def first_bytes(path: Path) -> bytes:
    """The beginning of a file."""
    with path.open('rb') as file:
        return file.read(256)
