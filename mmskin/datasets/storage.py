"""Images and masks that are not files of their own: MMEngine's storage backends, and tar shards."""

import json
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from mmengine.fileio import get_file_backend, register_backend
from mmengine.fileio.backends import BaseStorageBackend

from mmskin.datasets.rows import once_per_machine, stamp
from mmskin.errors import MissingFile, MissingLibrary, Mistake
from mmskin.readers.images import MAX_PIXELS, most_bytes

EXAMPLE = "dict(backend='lmdb', db_path=...)"
LARGEST = most_bytes(MAX_PIXELS)  # of a member that is read
LONGEST_HEAD = 1 << 20  # bytes of a member's name and notes
HEADS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
NO_CONTENT = (b'V', b'D')  # GNU tar's label of an archive, and its list of a folder


class _Member(tarfile.TarInfo):
    """A member's head, which has to be whole: tarfile takes one that is damaged or missing for the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> '_Member':
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0 or (member.type in HEADS and member.size > LONGEST_HEAD):
            raise tarfile.ReadError(f'a size of {member.size} bytes')
        return member

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> '_Member':
        try:
            member = super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the end, as it is written
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f'{error} at byte {tarfile_.offset}') from error
        if member.size < 0:
            raise tarfile.ReadError(f'a size of {member.size} bytes')
        return member


def shard_members(
    shard: str, mode: Literal['r:', 'r:*'], contents: bool = False
) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The files of a tar archive, from its start to its end, by the one rule for what is whole.

    Args:
        shard: The archive.
        mode: ``'r:'`` for one that is not compressed, ``'r:*'`` for any.
        contents: Read the members, of at most ``LARGEST`` bytes each; otherwise their bytes are empty.

    Raises:
        MissingFile: if it is not there.
        Mistake: if it is damaged or cut off, goes on after its end, or a member is a link or sparse.
    """
    if os.path.exists(shard) and not os.path.isfile(shard):  # of a pipe or device, nobody knows the end
        raise Mistake(f'{shard}: no file; name tar files')
    try:
        with tarfile.open(shard, mode, tarinfo=_Member) as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # which it would keep
                if member.isdir() or member.isdev() or member.type in NO_CONTENT:
                    continue
                if not member.isreg() or member.issparse():
                    what = 'a link' if member.issym() or member.islnk() else 'no plain file'
                    raise Mistake(
                        f'{shard}: {member.name} is {what}; write the shard by tar --dereference --hard-dereference'
                    )
                if contents and member.size > LARGEST:
                    raise Mistake(
                        f'{shard}: {member.name} has {member.size} bytes, more than an image takes; remove it'
                    )
                file = archive.extractfile(member) if contents else None
                yield member, file.read() if file else b''
            while rest := archive.fileobj.read(1 << 20):
                if rest.strip(b'\0'):
                    raise Mistake(
                        f'{shard}: has data after its end; join archives by tar --concatenate, or keep them apart'
                    )
    except FileNotFoundError as error:
        raise MissingFile(f'{shard}: gone') from error
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        lines = str(error).splitlines()
        reason = 'as no kind of tar file' if lines[1:] else ''.join(lines)
        kind = 'compressed, damaged' if mode == 'r:' else 'damaged'
        raise Mistake(f'{shard}: {kind}, or not a tar file ({reason}); copy it again') from error


class TarBackend(BaseStorageBackend):
    """The members of uncompressed tar files, such as WebDataset's shards, by their names.

    Which member is where is looked up once per machine, and again when a shard has changed.

    Args:
        path: a tar file, a folder of them, or a pattern such as ``'shards/train-*.tar'``.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if one is compressed or damaged, or two members have one name.
    """

    def __init__(self, path: str | Path) -> None:
        shards = glob(str(path)) if not Path(path).is_dir() else [*map(str, Path(path).glob('*.tar'))]
        self.path, self.shards = str(path), sorted(map(os.path.abspath, shards))
        if not self.shards:
            raise MissingFile(f'{path}: no tar file is there')
        self.index = once_per_machine(['tar', *self.shards], 1, self._read_index)
        self.files: dict[int, int] = {}

    def _read_index(self) -> tuple[pa.Table, dict[str, list[int] | None]]:
        members: list[tuple[str, int, int, int]] = []
        stamps = {shard: stamp(shard) for shard in self.shards}
        for number, shard in enumerate(self.shards):
            for member, _ in shard_members(shard, 'r:'):
                name = os.fsencode(os.path.normpath(member.name)).decode(errors='backslashreplace')
                members.append((name, number, member.offset_data, member.size))
        members.sort()
        names = [name for name, *_ in members]
        if twice := next((name for name, after in zip(names, names[1:], strict=False) if name == after), None):
            raise Mistake(f'{self.path}: two members are named {twice}; make the names unique')
        columns = [*zip(*members, strict=True)] or [(), (), (), ()]
        return pa.table(dict(zip(('name', 'shard', 'offset', 'size'), map(list, columns), strict=True))), stamps

    def get(self, filepath: str | Path) -> bytes:
        """A member's bytes."""
        row = self.index.find('name', str(filepath))
        if row is None:
            raise FileNotFoundError(f'{filepath} is not in {self.path}')
        if row['size'] > LARGEST:
            raise Mistake(f'{filepath}: has {row["size"]} bytes, more than an image takes')
        if row['shard'] not in self.files:
            self.files[row['shard']] = os.open(self.shards[row['shard']], os.O_RDONLY)
        data = os.pread(self.files[row['shard']], row['size'], row['offset'])
        if len(data) < row['size']:
            raise Mistake(f'{self.shards[row["shard"]]}: truncated; copy it again')
        return data

    def get_text(self, filepath: str | Path, encoding: str = 'utf-8') -> str:
        """A member as text."""
        return self.get(filepath).decode(encoding)


register_backend('tar', TarBackend, force=True)


def content_of(sample: Mapping[str, Any], name: str) -> bytes | None:
    """The bytes of what a sample calls ``name``, where it is no file: in hand (``contents``), or in a storage."""
    if name in sample.get('contents', {}):
        return sample['contents'][name]
    return read_stored(name, sample['backend_args']) if sample.get('backend_args') else None


def read_stored(name: str, backend_args: Mapping[str, Any]) -> bytes:
    """What a backend has under a name."""
    backend = _backend(json.dumps(dict(backend_args), default=str))
    try:
        content = backend.get(name)
    except Mistake:
        raise
    except (FileNotFoundError, UnicodeEncodeError) as error:
        raise MissingFile(f'{name}: not in {described(backend_args)} ({error})') from error
    except Exception as error:  # backends raise whatever they like
        raise Mistake(f'{name}: cannot be read from {described(backend_args)} ({error})') from error
    if content is None:  # LMDB's answer
        raise MissingFile(f'{name}: not in {described(backend_args)}')
    return content


def listing(backend_args: Mapping[str, Any]) -> tuple[list[str] | None, dict[str, list[int] | None]]:
    """All names that a backend has, where it can say, and the files that it reads, with their stamps."""
    backend = _backend(json.dumps(dict(backend_args), default=str))
    if isinstance(backend, TarBackend):
        return backend.index.column('name'), {shard: stamp(shard) for shard in backend.shards}
    names = None
    if type(backend).__name__ == 'LmdbBackend':
        with backend._client.begin() as transaction:
            keys = transaction.cursor().iternext(values=False)
            names = [bytes(key).decode(errors='surrogateescape') for key in keys]
    path = backend_args.get('db_path')
    files = (path, Path(path, 'data.mdb')) if path else ()
    return names, {os.path.abspath(file): stamp(file) for file in files}


@lru_cache(16)
def _backend(arguments: str) -> Any:
    """A backend; a process has one of each, since LMDB opens a file once."""
    backend_args = json.loads(arguments)
    name, path = backend_args.get('backend'), backend_args.get('db_path')
    if name == 'lmdb' and not isinstance(path, str):
        raise Mistake(f"backend_args={backend_args}: give the database's folder, as in {EXAMPLE}")
    if path and not os.path.exists(path):
        raise MissingFile(f'{path}: not there; correct db_path of backend_args')
    try:
        backend: Any = get_file_backend(backend_args=backend_args)
        if name == 'lmdb':
            backend._client = backend._get_client()
            needed = (backend._client.info()['last_pgno'] + 1) * backend._client.stat()['psize']
            file = Path(path, 'data.mdb') if os.path.isdir(path) else Path(path)
            if file.stat().st_size < needed:  # where a page lacks, LMDB ends the process
                raise Mistake(f'{file}: truncated; copy it again')
        return backend
    except Mistake:
        raise
    except ImportError as error:
        raise MissingLibrary(f"backend='{name}': {error}; pip install '.[{name}]'", name=name) from error
    except Exception as error:  # backends raise whatever they like
        raise Mistake(f'backend_args={backend_args}: {error}; give {EXAMPLE}, for example') from error


def described(backend_args: Mapping[str, Any]) -> str:
    """What errors call a backend."""
    return str(backend_args.get('path') or backend_args.get('db_path') or backend_args.get('backend'))
