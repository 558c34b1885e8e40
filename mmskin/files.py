"""Files that are there whole or not at all, what is in them, and which names they may have."""

import csv
import json
import math
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

from mmskin.errors import MissingFile, Mistake

__all__ = [
    'check_name',
    'csv_line',
    'finite',
    'json_text',
    'markdown_table',
    'plain_cell',
    'read_csv',
    'read_json',
    'refuse_links',
    'whole_file',
    'write_csv',
    'write_json',
    'write_text',
    'write_whole',
]

# full-width signs begin a formula, too, where a spreadsheet runs in Japanese
FORMULA = re.compile(r"'*(\s*[-=+@＝＋－＠]|[\t\r\n])")
UNFINISHED = '.part'  # how the name of a file ends that is not whole yet
NUMBER = re.compile(r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?')
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
    if not isinstance(name, str) or not name.strip():
        fault = 'is empty' if name in (None, '') or isinstance(name, str) else 'is no text'
    elif not name.strip('. '):
        fault = 'is nothing but dots'
    elif '/' in name or '\\' in name or re.match('[A-Za-z]:', name):
        fault = 'is a path'
    elif any(unicodedata.category(letter) == 'Cc' for letter in name):
        fault = 'has a control character in it'
    elif len(os.fsencode(name)) > LONGEST:
        name, fault = f'{name[:40]}...', f'is too long for the names of its results, which have {LONGEST} bytes for it'
    else:
        return name
    raise Mistake(f'{what} {name!r} {fault}; files are named after it, so give another')


def refuse_links(folder: Path, root: Path) -> None:
    """Raise ValueError if ``folder`` or one between it and ``root`` is a link, which may lead anywhere."""
    for one in (folder, *folder.parents):
        if one == root:
            return
        if one.is_symlink():
            raise Mistake(f'{one} is a link, and nothing is written through one; remove it')


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as ``write_whole`` does."""
    write_whole(path, text.encode())


def write_json(path: str | Path, value: Any, indent: int | None = None) -> None:
    """Write ``value`` as JSON, as ``json_text`` and ``write_whole`` do."""
    write_text(path, json_text(value, indent) + '\n')


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON that every parser takes: nan and infinity, which JSON does not have, are null."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """``value`` with None in place of each number, at any depth, that is nan or infinite."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, Real) and not math.isfinite(value) else value


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
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(path.suffix) < 8 else ''
    unfinished = path.with_name(f'.{secrets.token_hex(8)}{suffix}{UNFINISHED}')  # nobody can have put a link there
    try:
        with open(unfinished, 'xb') as file:
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


def write_csv(path: str | Path, rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as ``write_whole`` does, in UTF-8; see ``csv_line``. What is no text in UTF-8 gets backslashes."""
    write_whole(path, ''.join(map(csv_line, rows)).encode(errors='backslashreplace'))


def csv_line(cells: Iterable[Any]) -> str:
    """One row of a CSV, such that no spreadsheet runs what is in its cells.

    Text that a spreadsheet takes for a formula gets a single quote in front, as OWASP advises
    (https://owasp.org/www-community/attacks/CSV_Injection), which ``plain_cell`` takes off again. Numbers stay as they
    are, also where they are written as text. None is an empty cell.
    """
    return ','.join(map(_csv_cell, cells)) + '\n'


def _csv_cell(value: Any) -> str:
    text = '' if value is None else str(value)
    if not isinstance(value, Real) and FORMULA.match(text) and not NUMBER.fullmatch(text):
        text = f"'{text}"
    return '"{}"'.format(text.replace('"', '""')) if SEPARATOR.search(text) else text


def plain_cell(cell: str) -> str:
    """The text of a cell that ``csv_line`` wrote."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """The rows of a table of ours, whose first line names the columns.

    Raises:
        MissingFile: if it is missing.
        Mistake: if it is no such table, or a row is not complete.
    """
    try:
        with open(path, newline='', encoding='utf-8') as file:
            names, *rows = [[plain_cell(cell) for cell in cells] for cells in csv.reader(file) if cells] or [[]]
        return [dict(zip(names, cells, strict=True)) for cells in rows]
    except FileNotFoundError as error:
        raise MissingFile(f'{path}: not there') from error
    except (csv.Error, ValueError) as error:
        raise Mistake(f'{path}: damaged, or no table ({error}); make it again by what wrote it') from error


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *rows))


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds.

    Raises:
        MissingFile: if it is missing.
        Mistake: if it is damaged.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise MissingFile(f'{path}: not there') from error
    except (RecursionError, ValueError) as error:
        raise Mistake(f'{path}: damaged, or no JSON ({error}); make it again by what wrote it') from error
