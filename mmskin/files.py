"""Files that are there whole or not at all, what is in them, how it is written, and which names they may have."""

import csv
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import signal
import sqlite3
import stat
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate, islice
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any, BinaryIO

from mmskin.errors import FULL, MissingFile, Mistake

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

ZOO = Path(__file__).resolve().parent / 'zoo'  # the models that come with mmskin
# full-width signs begin a formula, too, where a spreadsheet runs in Japanese
FORMULA = re.compile(r"'*(\s*[-=+@＝＋－＠]|[\t\r\n])")
PLAIN_NAME = re.compile(r'[\w-][\w .-]{0,50}')  # of 4 bytes a letter at most
LINE_END = re.compile('\r\n|\r|\n')
UNFINISHED = re.compile(r'\.[0-9a-f]{16}(\.\w{1,6})?\.part')  # names of files and folders that are not whole yet
NUMBER = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?', re.ASCII)
CLEARED: set[Path] = set()  # folders
SEPARATOR = re.compile('[",;|\t\r\n]')  # those of other countries, too: an id in quotes stays one cell there


LONGEST = 255 - len('_segmentation.png')  # bytes: a disk takes 255, and this is the longest ending that names get


def check_name(name: Any, what: str) -> str:
    """A user's word, if it can be part of a file's name and leads to no other folder on any system.

    The one rule for image ids, stages and methods: files and folders are named after them.

    Args:
        name: the word.
        what: what the error calls it, such as ``'list.csv, line 3: the image id'``.

    Raises:
        ValueError: if it is no text, empty, longer than 238 bytes, nothing but dots, or has a slash, a backslash, a
            control character such as a new line, or a drive (``C:``) in it.
    """
    if isinstance(name, str) and PLAIN_NAME.fullmatch(name):
        return name
    if not isinstance(name, str) or not name.strip():
        fault = 'is empty' if name in (None, '') or isinstance(name, str) else 'is no text'
    elif not name.strip('. '):
        fault = 'is nothing but dots'
    elif '/' in name or '\\' in name or re.match('[A-Za-z]:', name):
        fault = 'is a path'
    elif any(unicodedata.category(letter) == 'Cc' for letter in name):
        fault = 'has a control character in it'
    elif re.search('[\ud800-\udc7f\udd00-\udfff]', name):  # the others stand for bytes that are not UTF-8
        fault = 'has a character in it that no file is named with'
    elif len(os.fsencode(name)) > LONGEST:
        name, fault = f'{name[:40]}...', f'is too long for the names of its results, which have {LONGEST} bytes for it'
    else:
        return name
    raise Mistake(f'{what} {name!r} {fault}; files are named after it, so give another')


def file_key(name: str) -> str:
    """What two names have in common that are one file where a disk ignores capitals and how accents are written."""
    return unicodedata.normalize('NFC', name).casefold()


def check_readable(path: str | Path) -> None:
    """Raise the system's error, which names the file, if it cannot be opened; libraries say less, or otherwise."""
    with open(str(path), 'rb'):
        pass


def refuse_device(path: str | Path) -> None:
    """Raise a ``Mistake`` if it is a device or a pipe, of which nothing may come, or no end, and nothing twice."""
    if _is_device(path):
        raise Mistake(f'{path}: a device or a pipe; write what it gives into a file, and name that')


def _is_device(path: str | Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def cache_folder(kind: str) -> Path:
    """Where the user's cache holds what is of a kind: below ``XDG_CACHE_HOME``, by default ``~/.cache``.

    Nothing is made or looked at; where the user has no home, nothing can be.
    """
    try:
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    except RuntimeError:
        cache = Path(os.devnull)
    return cache / 'mmskin' / kind


def shown_path(path: str | Path) -> str:
    """``path`` for a report that is sent around: of a model that comes with mmskin it begins with the name."""
    path = Path(path)
    return str(path.relative_to(ZOO) if path.is_relative_to(ZOO) else path)


def refuse_links(folder: Path, root: Path) -> None:
    """Raise ValueError if ``folder`` or one between it and ``root`` is a link, which may lead anywhere."""
    for place in (folder, *folder.parents):
        if place == root:
            return
        if place.is_symlink():
            raise Mistake(f'{place} is a link, and nothing is written through one; remove it')


def refuse_replacing(path: str | Path, folder: str | Path) -> None:
    """Raise a ``Mistake`` if ``path`` is there and lies in ``folder``, whose files are the user's data."""
    if os.path.lexists(path) and Path(path).resolve().is_relative_to(Path(folder).resolve()):
        raise Mistake(f'{path} is in the data folder and would be replaced; name another file, or delete it')


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as ``write_whole`` does; what is not UTF-8, as a name need not be, gets backslashes."""
    write_whole(path, text.encode(errors='backslashreplace'))


def write_unless_edited(path: str | Path, text: str) -> Path:
    """Write what users may edit, such as a config; one that is not as it was written stays, which is said.

    The folder keeps digests of what was written.

    Returns:
        Where the text is: at ``path``, or next to what stays, as ``name.new.py``.
    """
    path, content = Path(path), text.encode(errors='backslashreplace')
    note, digest = path.with_name('.written.json'), hashlib.sha256(content).hexdigest()
    try:
        known = read_note(note)
    except Mistake:  # not there, or damaged
        known = {}
    digests = {digest, *known.get(path.name, ())}
    is_file = path.is_file() and not path.is_symlink()
    if is_file and hashlib.sha256(path.read_bytes()).hexdigest() not in digests:
        new = path.with_suffix(f'.new{path.suffix}')
        print(f'{path}: is not as mmskin wrote it, and stays; the new one is {new}', file=sys.stderr)
        path = new
    elif digest not in known.get(path.name, ()):  # first, so that a file of a killed process is known, too
        write_note(note, {**known, path.name: sorted(digests)})
    write_whole(path, content)
    return path


def write_json(path: str | Path, value: Any, indent: int | None = None) -> None:
    """Write ``value`` as JSON, as ``json_text`` and ``write_whole`` do."""
    write_text(path, json_text(value, indent) + '\n')


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON that every parser takes: nan and infinity, which JSON does not have, are null."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """``value`` with None in place of each number, at any depth, that is nan or infinite."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    is_whole = isinstance(value, Integral)  # of any size
    return None if isinstance(value, Real) and not is_whole and not math.isfinite(value) else value


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file as ``whole_file`` does."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write, whose folder is made if it is not there.

    It appears under its name when the block has ended and it is on the disk: a process that is killed leaves the
    earlier file, as does a machine that loses power, and of two that write at once one wins. A link of that name is
    replaced, not followed.

    Raises:
        Mistake: if the name is that of a device or pipe, or of a link to one.
        OSError: if it cannot be written, as where a folder has its name.
    """
    path = Path(path)
    if not path.name or (path.is_dir() and not path.is_symlink()):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if _is_device(path):  # it would be replaced, /dev/null by root as well
        raise Mistake(f'{path}: a device or a pipe, not a file; name another')
    with _unfinished(path, lambda new: open(new, 'xb')) as (unfinished, file):
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    with suppress(OSError):  # not every system lets a folder be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder next to ``path`` to fill, and to move from when all is there; what is left in the end is removed."""
    with _unfinished(path, Path.mkdir) as (folder, _):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def replace_folder(new: Path, old: Path) -> None:
    """Put a folder in the place of an earlier one that was written likewise.

    Raises:
        Mistake: if the earlier one holds something of a name that the new one has not: it would be lost.
    """
    if old.exists():
        if others := sorted({path.name for path in old.iterdir()} - {path.name for path in new.iterdir()}):
            raise Mistake(f'{old / others[0]} would be lost; move it, or name another folder')
        shutil.rmtree(old)
    os.replace(new, old)


@contextmanager
def _unfinished(path: Path, make: Callable[[Path], Any]) -> Iterator[tuple[Path, Any]]:
    """A new file or folder next to ``path``, and what ``make`` gave.

    It is locked, and so not taken for what a killed process left: that is removed first. The system frees a lock when
    its process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_unfinished(path.parent)
    suffix = path.suffix if re.fullmatch(r'\.\w{1,6}', path.suffix) else ''
    with _ended_in_order(), ExitStack() as held:
        while True:
            new = path.with_name(f'.{secrets.token_hex(8)}{suffix}.part')  # nobody can have put a link there
            with named(path, new):
                made = make(new)
            with suppress(OSError):
                held.enter_context(_locked(new))
            if os.path.lexists(new):  # else it was taken for one before it was locked
                break
        with named(path, new):
            yield new, made


@contextmanager
def named(path: Path, unfinished: Path | None = None) -> Iterator[None]:
    """Let the errors of the block name ``path`` where the system names no file, as on a full disk, or ``unfinished``.

    Args:
        path: What is written inside the block.
        unfinished: What it is called, or is in, until it is whole; nobody knows of it.
    """
    try:
        yield
    except OSError as error:
        is_unnamed = error.filename is None and error.errno in FULL
        if is_unnamed or (unfinished and str(error.filename).startswith(str(unfinished))):
            error.filename = str(path)
        raise


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Inside the block the signals that ask a process to end, as ``timeout`` does, let it remove what is not whole."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    asking = [getattr(signal, name) for name in ('SIGTERM', 'SIGHUP') if hasattr(signal, name)]
    free = threading.current_thread() is threading.main_thread()  # only there Python lets one be handled
    handled = [number for number in asking if free and signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def hold(file: IO[Any]) -> None:
    """Keep an open file for this process until it is closed, however that is, where the system can; see ``is_held``."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Whether a process that still works has a file by ``hold``."""
    try:
        with _locked(path, fcntl.LOCK_NB if fcntl else 0):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


@contextmanager
def _locked(path: Path, flags: int = 0) -> Iterator[None]:
    """Inside the block no other process can lock a file or folder.

    Raises:
        OSError: if it is no longer there, or cannot be locked, as on some file systems.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(path))
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(handle)


def clear_unfinished(folder: Path) -> None:
    """Remove what killed processes left of files and folders that they wrote in ``folder``; once in a process."""
    folder = folder.absolute()
    if folder in CLEARED:
        return
    CLEARED.add(folder)
    with suppress(OSError):
        for name in filter(UNFINISHED.fullmatch, os.listdir(folder)):
            with suppress(OSError), _locked(folder / name, fcntl.LOCK_NB if fcntl else 0):
                shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def write_csv(path: str | Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as ``write_whole`` does, in UTF-8; see ``csv_line``. What is not UTF-8 text gets backslashes."""
    with whole_file(path) as file:
        for cells in rows:
            file.write(csv_line(cells).encode(errors='backslashreplace'))


def csv_line(cells: Iterable[Any]) -> str:
    """One row of a CSV, such that no spreadsheet runs what is in its cells.

    Text that a spreadsheet takes for a formula gets a single quote in front, as OWASP advises
    (https://owasp.org/www-community/attacks/CSV_Injection), which ``plain_cell`` takes off again. Numbers stay as they
    are, also where they are written as text. None is an empty cell.
    """
    texts = []
    for value in cells:
        text = '' if value is None else str(value)
        if not isinstance(value, Real) and FORMULA.match(text) and not NUMBER.fullmatch(text):
            text = f"'{text}"
        texts.append('"{}"'.format(text.replace('"', '""')) if SEPARATOR.search(text) else text)
    return ','.join(texts) + '\n'


def plain_cell(cell: str) -> str:
    """The text of a cell that ``csv_line`` wrote."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read_cells(path: str | Path, delimiter: str = ',') -> Iterator[tuple[int, list[str]]]:
    """The lines of any CSV in UTF-8 that are not empty: the number in the file, and the cells.

    A quote that keeps a spreadsheet from running a cell is taken off; see ``csv_line``. Empty cells at a line's end are
    not counted, since spreadsheets write more of them or less.
    """
    for numbers, rows in _read_raw(path, delimiter):
        for number, cells in zip(numbers, rows, strict=True):
            yield number, [plain_cell(cell.strip()) for cell in cells]


def read_columns(
    path: str | Path, columns: Iterable[str], delimiter: str = ','
) -> Iterator[tuple[Sequence[int], dict[str, list[str]]]]:
    """Some columns of a table, which has them, many lines at a time: the lines' numbers, and cells by column.

    Several times faster than ``read_cells``, and otherwise the same.
    """
    names: list[str] = []
    for numbers, rows in _read_raw(path, delimiter):
        if not names:
            names = [plain_cell(cell.strip()) for cell in rows[0]]
            numbers, rows = numbers[1:], rows[1:]
        by_place = [*zip(*rows, strict=True)]
        chosen = {name: [cell.strip() for cell in by_place[names.index(name)]] for name in columns if rows}
        for name, cells in chosen.items():
            if "'" in ''.join(cells):
                chosen[name] = [plain_cell(cell) for cell in cells]
        if chosen:
            yield numbers, chosen


def _read_raw(path: str | Path, delimiter: str) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
    """The lines of ``read_cells``, many at a time: their numbers, and as many cells in each, as they are written."""
    refuse_device(path)
    try:
        with open(path, 'rb') as content:
            may_have_nul = any(b'\0' in block for block in iter(lambda: content.read(2**20), b''))
        with open(path, newline='', encoding='utf-8-sig') as file:
            reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
            width = fewest = before = 0
            while rows := list(islice(reader, 1024 if before else 1)):  # the head first, for its reader to judge
                numbers: Sequence[int] = range(before + 1, before + 1 + len(rows))
                if reader.line_num > numbers[-1]:  # a cell goes on in the next line
                    heights = (1 + sum(len(LINE_END.findall(cell)) for cell in cells) for cells in rows)
                    numbers = [*accumulate(heights, initial=before)][1:]
                before = reader.line_num
                if may_have_nul or {*map(len, rows)} != {width}:
                    lines = [(number, cells) for number, cells in zip(numbers, rows, strict=True) if cells]
                    for number, cells in lines:
                        if any('\0' in cell for cell in cells):
                            raise Mistake(f'{path}, line {number}: has a NUL in it, so it is damaged; copy it again')
                        filled = [place for place, cell in enumerate(cells, start=1) if plain_cell(cell.strip())]
                        count = max(filled, default=0)
                        if not width:
                            width, fewest = len(cells), count
                        if len(cells) < fewest or count > width:
                            raise Mistake(
                                f'{path}, line {number}: has {len(cells)} cells, and the first line has {width}; '
                                'it is cut off, or a cell with the separator in it lacks its quotes'
                            )
                        cells[:] = [*cells[:width], *[''] * (width - len(cells))]
                    numbers, rows = [number for number, _ in lines], [cells for _, cells in lines]
                if rows:
                    yield numbers, rows
    except FileNotFoundError as error:
        raise MissingFile(f'{path}: not there') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise Mistake(f'{path} is not a UTF-8 table ({error}); save it as CSV in UTF-8, or copy it again') from error


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The rows of a table of ours, whose first line names the columns, and whose last one ends."""
    _, *rows = [cells for _, cells in read_cells(path)] or [[]]
    names = own_columns(path)
    return [dict(zip(names, cells, strict=True)) for cells in rows]


def own_columns(path: str | Path) -> list[str]:
    """The names of the columns of a table of ours, which is whole."""
    names = next(read_cells(path), (0, []))[1]
    with open(path, 'rb') as file:
        file.seek(max(0, os.path.getsize(path) - 1))
        ends = file.read() == b'\n'
    if len(set(names)) < len(names) or not ends:
        what = 'a column twice' if len(set(names)) < len(names) else 'no end of its last line'
        raise Mistake(f'{path}: damaged, it has {what}; make it again with the command that wrote it')
    return names


def number_in(cell: str) -> float:
    """The number that a cell states.

    Raises:
        ValueError: if it is none: Python would take ``nan``, ``1e999``, ``1_0`` and digits of other scripts, too.
    """
    if not NUMBER.fullmatch(cell) or not math.isfinite(value := float(cell)):
        raise ValueError(f'{cell[:40]!r} is not a number')
    return value


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *rows))


def readable(name: str) -> str:
    """A class name as written in text."""
    return name.replace('_', ' ')


def signed(*values: float) -> list[str]:
    """Differences with their sign and three digits, or with so many more that none but 0 itself reads as 0."""
    digits = next((n for n in range(3, 6) if all(round(value, n) for value in values if value)), 6)
    return [
        f'{value:+.0e}' if value and not round(value, digits) else f'{value:{"+" if value else ""}.{digits}f}'
        for value in (value or 0.0 for value in values)
    ]


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds."""
    refuse_device(path)
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise MissingFile(f'{path}: not there') from error
    except (RecursionError, ValueError) as error:
        raise Mistake(
            f'{path}: damaged, or not JSON ({error}); make it again with the command that wrote it'
        ) from error


SEAL = 'sha256'


def write_note(path: str | Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write JSON that is read again, with a digest, ``sha256``, of what it says."""
    content = json.loads(json_text(content))  # as it will be read: with lists, and text as keys
    write_json(path, {**content, SEAL: _digest(Path(path).name, content)}, indent)


def read_note(path: str | Path, name: str | None = None) -> dict[str, Any]:
    """What ``write_note`` wrote under this name, unchanged: it has the keys and kinds of values that were written.

    Args:
        path: the file.
        name: that it has to have, where a user says which file it is; other notes say other things.

    Raises:
        MissingFile: if it is missing.
        Mistake: if it has another name, is damaged, was changed or comes from elsewhere.
    """
    if name and Path(path).name != name:
        raise Mistake(f'{path}: give a file named {name}, as it was written')
    content = read_json(path)
    if not isinstance(content, dict) or content.pop(SEAL, None) != _digest(Path(path).name, content):
        raise Mistake(
            f'{path}: was changed after it was written; restore it, or make it again with the command that wrote it'
        )
    return content


def _digest(name: str, content: Any) -> str:
    """SHA-256 of what a file of this name says, however it is laid out."""
    return hashlib.sha256(json.dumps([name, content], sort_keys=True).encode()).hexdigest()


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
