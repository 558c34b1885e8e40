"""Reading tables whose first line names the columns."""

import csv
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from mmskin.errors import MissingFile, Mistake
from mmskin.files import plain_cell


def read_rows(
    path: Path, columns: Collection[str], where_from: str, mend: str, delimiter: str = ','
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV in UTF-8, without the spaces around the cells; what a short row lacks is ''.

    A quote that keeps a spreadsheet from running a cell is taken off; see ``csv_line``.

    Args:
        path: the table.
        columns: those that have to be there.
        where_from: what the error says about a table that is missing.
        mend: likewise, about one that lacks a column.
        delimiter: the character between the cells.

    Yields:
        ``'<path>, line <number>'`` for errors, and the cells by column.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if a column is missing, the file is no text in UTF-8, or the delimiter is not one character.
    """
    if not path.is_file():
        raise MissingFile(f'{path} is missing; {where_from}')
    if len(delimiter) != 1:
        raise Mistake(f'{path}: the delimiter is {delimiter!r}; it has to be one character')
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            rows = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
            rows.fieldnames = [plain_cell(name.strip()) for name in rows.fieldnames or ()]
            if missing := [column for column in columns if column not in rows.fieldnames]:
                raise Mistake(f'{path} has no column {", ".join(missing)}; {mend}')
            for row in rows:
                cells = {key: plain_cell((value or '').strip()) for key, value in row.items() if key is not None}
                yield f'{path}, line {rows.line_num}', cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise Mistake(f'{path} is no table in UTF-8 ({error}); save it as CSV in UTF-8.') from error


def named_file(cell: str, column: str, folder: Path, roots: Sequence[str | Path] | None) -> Path:
    """The file that a cell names, relative to ``folder``; it need not be there.

    Paths are compared as they are written, since many data sets consist of links to where the files are.

    Args:
        cell: an absolute path, or one relative to ``folder``.
        column: the cell's.
        folder: see ``cell``.
        roots: the folders of which the file has to be in one; None allows any.

    Raises:
        ValueError: if it is in none of them, or its path has ``..`` in it.
    """
    path = folder / cell
    inside = roots is None or (
        '..' not in Path(cell).parts
        and any(Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)) for root in roots)
    )
    if not inside:
        raise Mistake(
            f'{column}: {cell} is outside {" and ".join(map(str, roots or ()))}; move the file there, or allow it with '
            'outside_data_root=True'
        )
    return path
