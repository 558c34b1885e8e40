"""More entries than memory should hold, on the disk while they are needed."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from mmskin.errors import Mistake

__all__ = ['SpooledDict']


class SpooledDict(Mapping[str, Any]):
    """A dict of what JSON can hold, in order of arrival; of many entries, all but a few megabytes are on the disk.

    The file has no name and is gone with the object. A key need not be text in UTF-8, as names of files need not.
    """

    def __init__(self) -> None:
        self.rows = sqlite3.connect('', check_same_thread=False, isolation_level=None)
        self.rows.execute('CREATE TABLE entries (place INTEGER PRIMARY KEY, key BLOB UNIQUE, value TEXT)')
        self.rows.execute('BEGIN')  # or each entry would be a transaction

    def __setitem__(self, key: str, value: Any) -> None:
        text = 'INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value'
        self._write(text, key, value)

    def add(self, key: str, value: Any = None) -> bool:
        """Take an entry, if there is none of this key; whether there was none."""
        text = 'INSERT OR IGNORE INTO entries (key, value) VALUES (?, ?)'
        return bool(self._write(text, key, value).rowcount)

    def _write(self, text: str, key: str, value: Any) -> sqlite3.Cursor:
        try:
            return self.rows.execute(text, (_bytes(key), json.dumps(value)))
        except sqlite3.OperationalError as error:
            raise Mistake(f'no room for temporary files ({error}); make some, or name a folder by TMPDIR') from error

    def __getitem__(self, key: str) -> Any:
        for (value,) in self.rows.execute('SELECT value FROM entries WHERE key = ?', (_bytes(key),)):
            return json.loads(value)
        raise KeyError(key)

    def __len__(self) -> int:
        return self.rows.execute('SELECT count(*) FROM entries').fetchone()[0]

    def __iter__(self) -> Iterator[str]:
        for (key,) in self.rows.execute('SELECT key FROM entries ORDER BY place'):
            yield _text(key)

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[str, Any]]:
        """Keys and values from place ``start`` up to ``stop``, in order of arrival."""
        text = 'SELECT key, value FROM entries WHERE place > ? AND place <= ? ORDER BY place'
        for key, value in self.rows.execute(text, (start, len(self) if stop is None else stop)):
            yield _text(key), json.loads(value)

    def sorted(self) -> Iterator[str]:
        """Keys in the order of their characters."""
        for (key,) in self.rows.execute('SELECT key FROM entries ORDER BY key'):
            yield _text(key)


def _bytes(key: str) -> bytes:
    return key.encode('utf-8', 'surrogateescape')


def _text(key: bytes) -> str:
    return key.decode('utf-8', 'surrogateescape')
