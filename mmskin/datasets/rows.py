"""Samples by the hundred thousand: rows of an Arrow file that the processes of a machine share."""

import hashlib
import json
import logging
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock
from mmengine.logging import print_log

from mmskin.errors import Mistake
from mmskin.files import cache_folder, whole_file

SEAL = hashlib.sha256().digest_size  # bytes at a file's end
PATIENCE = 600  # seconds for another process to read a table


class Rows(Sequence[dict]):
    """A table in which a row is a dict without what is empty; one is made when it is asked for.

    A column ``inputs/age`` is the entry ``age`` of the row's dict ``inputs``. A copy shares the table. Another process
    gets the file's name, where there is one.

    Args:
        source: a file of ``write_rows``, which is mapped into memory and not read, or a table.
        indices: which of its rows these are, and in which order; None takes all.
        all_of_it: read the file once, and compare it with its digest. Otherwise a row may be another than was written,
            though none lies outside the file.

    Raises:
        FileNotFoundError: if there is no such file.
        Mistake: if it is damaged.
    """

    def __init__(self, source: Path | pa.Table, indices: np.ndarray | None = None, all_of_it: bool = False) -> None:
        self.source, self.indices = source, indices
        if not isinstance(source, Path):
            self.schema, self.batches = source.schema, source.to_batches()
        else:
            try:
                with pa.memory_map(str(source)) as file:
                    content = file.read_buffer()
                size = max(0, content.size - SEAL)
                if all_of_it and hashlib.sha256(content[:size]).digest() != content[size:].to_pybytes():
                    raise Mistake('its content does not match its digest')
                reader = pa.ipc.open_file(content[:size])
                self.schema = reader.schema
                self.batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
                for batch in self.batches:
                    batch.validate(full=True)
            except FileNotFoundError:
                raise
            except (pa.ArrowException, OSError, ValueError) as error:
                raise Mistake(f'{source}: damaged ({error})') from error
        self.columns = {name: [batch.column(name) for batch in self.batches] for name in self.schema.names}
        self.ends = np.cumsum([batch.num_rows for batch in self.batches], dtype=np.int64)

    def __len__(self) -> int:
        if self.indices is not None:
            return len(self.indices)
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        place = range(len(self))[index]
        place = place if self.indices is None else int(self.indices[place])
        number = int(np.searchsorted(self.ends, place, side='right'))
        place -= int(self.ends[number - 1]) if number else 0
        row: dict[str, Any] = {}
        for name, arrays in self.columns.items():
            if (value := arrays[number][place].as_py()) is not None:
                group, slash, key = name.partition('/')
                if slash:
                    row.setdefault(group, {})[key] = value
                else:
                    row[name] = value
        return row

    def column(self, name: str) -> list:
        """A column's values, None where a row has none."""
        if name not in self.columns:
            return [None] * len(self)
        values = pa.chunked_array(self.columns[name], self.schema.field(name).type)
        return (values if self.indices is None else values.take(pa.array(self.indices))).to_pylist()

    def find(self, name: str, value: str) -> dict | None:
        """The row with this value in a column of texts that is sorted; None where there is none."""
        texts = self.columns[name][0] if self.batches else ()
        place = bisect_left(range(len(texts)), value, key=lambda at: texts[at].as_py())
        return self[place] if place < len(texts) and texts[place].as_py() == value else None

    def take(self, indices: Iterable[int]) -> 'Rows':
        """The rows at these places."""
        places = np.fromiter(indices, np.int64)
        places[places < 0] += len(self)
        return Rows(self.source, places if self.indices is None else self.indices[places])

    def __deepcopy__(self, memo: dict) -> 'Rows':
        return self

    def __reduce__(self) -> tuple:
        return Rows, (self.source, self.indices)


def write_rows(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow file with its digest behind it, as ``whole_file`` does."""
    with whole_file(path) as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        file.flush()
        with open(file.name, 'rb') as written:
            file.write(hashlib.file_digest(written, 'sha256').digest())


def column_of(samples: Sequence[dict], name: str) -> list:
    """A field of all samples, None where one lacks it."""
    return samples.column(name) if isinstance(samples, Rows) else [sample.get(name) for sample in samples]


def chosen(samples: Sequence[dict], indices: Sequence[int]) -> Sequence[dict]:
    """The samples at these places."""
    return samples.take(indices) if isinstance(samples, Rows) else [samples[index] for index in indices]


def once_per_machine(
    name: Any, made_of: Any, build: Callable[[], tuple[pa.Table, Mapping[str, Sequence[int] | None]]]
) -> Rows:
    """The rows that one process of a machine builds, and that all others, and later runs, map from its file.

    The file is in ``mmskin/tables`` of the user's cache (``XDG_CACHE_HOME``, by default ``~/.cache``), and may be
    deleted at any time. Where none can be written, each process builds its own rows.

    Args:
        name: what the rows are of; later ones of the same name replace them.
        made_of: what else they depend on.
        build: gives the rows, and the files and folders that they were made from, each with its ``stamp`` of then.
    """
    key = hashlib.sha256(json.dumps(name, default=str).encode()).hexdigest()[:32]
    now = json.dumps(made_of, default=str)
    folder, table = cache_folder('tables'), None
    file = folder / f'{key}.arrow'
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(folder / f'{key}.lock', timeout=PATIENCE):
            with suppress(FileNotFoundError, Mistake, KeyError):
                rows = Rows(file, all_of_it=True)
                noted = {name.decode(): json.loads(text) for name, text in (rows.schema.metadata or {}).items()}
                if noted['made_of'] == json.loads(now) and all(
                    stamp(source) == seen for source, seen in noted['sources'].items()
                ):
                    return rows
            table, sources = build()
            write_rows(file, table.replace_schema_metadata({'made_of': now, 'sources': json.dumps(sources)}))
            table = None
            pa.default_memory_pool().release_unused()
            return Rows(file)
    except (OSError, RuntimeError) as error:  # the latter of file systems without locks
        if isinstance(error, Mistake):
            raise
        text = f'{folder}: {getattr(error, "strerror", None) or error}; each process keeps a table of its own'
        print_log(text, logger='current', level=logging.WARNING)
        return Rows(build()[0] if table is None else table)


def stamp(path: str | Path) -> list[int] | None:
    """Size and time of a file's or folder's last change; None where it is not there."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]
