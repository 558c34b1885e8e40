"""Images and masks that are not files of their own: MMEngine's storage backends, and tar shards."""

import json
import os
import tarfile
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any

import pyarrow as pa
from mmengine.fileio import get_file_backend, register_backend
from mmengine.fileio.backends import BaseStorageBackend

from mmskin.datasets.rows import once_per_machine, stamp
from mmskin.errors import MissingFile, MissingLibrary, Mistake

__all__ = ['TarBackend', 'content_of', 'places_of', 'read_stored', 'stored_names']


EXAMPLE = "dict(backend='lmdb', db_path=...)"


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
        found = glob(str(path)) if not Path(path).is_dir() else [*map(str, Path(path).glob('*.tar'))]
        self.path, self.shards = str(path), sorted(os.path.abspath(one) for one in found)
        if not self.shards:
            raise MissingFile(f'{path}: no tar file is there')
        self.index = once_per_machine(['tar', *self.shards], 1, self._read_index)
        self.files: dict[int, int] = {}

    def _read_index(self) -> tuple[pa.Table, dict[str, list[int] | None]]:
        members: list[tuple[str, int, int, int]] = []
        stamps = {shard: stamp(shard) for shard in self.shards}
        for number, shard in enumerate(self.shards):
            try:
                with tarfile.open(shard, 'r:') as archive:
                    for one in archive:
                        if one.isfile():
                            members.append((os.path.normpath(one.name), number, one.offset_data, one.size))
                        archive.members = []  # type: ignore[attr-defined]  # which it would keep
            except tarfile.TarError as error:
                raise Mistake(f'{shard}: no tar file that can be read, or compressed ({error})') from error
        members.sort()
        names = [member[0] for member in members]
        if twice := next((one for one, other in zip(names, names[1:], strict=False) if one == other), None):
            raise Mistake(f'{self.path}: two members are named {twice}; make the names unique')
        columns = [*zip(*members, strict=True)] or [(), (), (), ()]
        return pa.table(dict(zip(('name', 'shard', 'offset', 'size'), map(list, columns), strict=True))), stamps

    def names(self) -> list[str]:
        """The names of all members."""
        return self.index.column('name')

    def get(self, filepath: str | Path) -> bytes:
        """A member's bytes."""
        row = self.index.find('name', str(filepath))
        if row is None:
            raise FileNotFoundError(f'{filepath} is not in {self.path}')
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
    """The bytes of what a sample calls ``name``, where it is no file: in hand (``contents``), or in a storage.

    Raises:
        MissingFile: if the storage has nothing of that name.
    """
    if name in sample.get('contents', {}):
        return sample['contents'][name]
    return read_stored(name, sample['backend_args']) if sample.get('backend_args') else None


def read_stored(name: str, backend_args: Mapping[str, Any]) -> bytes:
    """What a backend has under a name.

    Raises:
        MissingFile: if it has nothing.
        Mistake: if it cannot be read.
    """
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


def stored_names(backend_args: Mapping[str, Any]) -> Collection[str] | None:
    """All names that a backend has, where it can say."""
    backend = _backend(json.dumps(dict(backend_args), default=str))
    if isinstance(backend, TarBackend):
        return backend.names()
    if type(backend).__name__ == 'LmdbBackend':
        return [*_keys(backend)]
    return None


def _keys(backend: Any) -> Iterator[str]:
    with backend._client.begin() as transaction:
        for key in transaction.cursor().iternext(values=False):
            yield bytes(key).decode(errors='surrogateescape')


def places_of(backend_args: Mapping[str, Any]) -> dict[str, list[int] | None]:
    """The files that a backend reads, with their stamps, to notice a change."""
    backend = _backend(json.dumps(dict(backend_args), default=str))
    if isinstance(backend, TarBackend):
        return {shard: stamp(shard) for shard in backend.shards}
    path = backend_args.get('db_path')
    return {os.path.abspath(one): stamp(one) for one in (path, Path(path, 'data.mdb'))} if path else {}


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
