"""The tables of data sets: diagnoses, and lists of samples from elsewhere."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmskin.errors import MissingFile, Mistake
from mmskin.files import check_name, number_in, read_cells, write_csv
from mmskin.structures import names_key, names_of

CLASSES = ('melanoma', 'nevus', 'seborrheic_keratosis')  # of ISIC-2017, in the order of their labels
COLUMNS = ('image_id', 'melanoma', 'seborrheic_keratosis')  # of the challenge's Part 3 tables
EXTRA_COLUMNS = (*COLUMNS, 'img_path', 'seg_map_path', 'distance')


def read_labels(path: Path) -> dict[str, int | None]:
    """The class of every row of a Part 3 table: an index into ``CLASSES``, or None where both cells are empty.

    That is a CSV with the columns ``image_id``, ``melanoma`` and ``seborrheic_keratosis``, whose values are 0 or 1; a
    row with both 0 is a nevus.
    """
    labels: dict[str, int | None] = {}
    source = 'it is the table with the diagnoses, or leave "cls" out of tasks.'
    for where, row in read_rows(path, COLUMNS, source, f'its first line has to be {",".join(COLUMNS)}.'):
        image_id = row['image_id']
        if image_id in labels:
            raise Mistake(f'{where}: the id {image_id} occurs twice; keep one row')
        names = set_columns(row, COLUMNS[1:], where)
        if names is None:
            labels[image_id] = None
        elif len(names) > 1:
            raise Mistake(f'{where}: {image_id} is both {" and ".join(names)}; set one of them to 0')
        else:
            labels[image_id] = CLASSES.index(names[0] if names else 'nevus')
    return labels


def read_extra_samples(path: str | Path, roots: Sequence[str | Path] | None = None) -> list[dict]:
    """The samples of a list, as ``load_data_list`` gives them.

    Args:
        path: a CSV with the columns ``image_id``, ``img_path``, ``seg_map_path``, and those of a Part 3 table. Mask and
            diagnosis may be empty. Paths are absolute, or relative to the list's folder. Other columns are ignored.
        roots: the folders that images and masks have to be in, besides the list's own; None allows any.
    """
    path = Path(path)
    labels = read_labels(path)
    allowed = None if roots is None else [path.parent, *roots]
    samples = []
    for where, row in read_rows(path, EXTRA_COLUMNS[3:5], '', 'write the list by tools/select_data.py.'):
        if not row['img_path']:
            raise Mistake(f'{where}: img_path is empty; name the image, or remove the row')
        sample: dict = {'image_id': check_name(row['image_id'], f'{where}: the image id')}
        for key in ('img_path', 'seg_map_path'):
            if row[key]:
                sample[key] = str(named_file(row[key], f'{where}: {key}', path.parent, allowed))
        if (label := labels[row['image_id']]) is not None:
            sample['gt_label'] = label
        samples.append(sample)
    return samples


def write_extra_samples(path: str | Path, samples: Iterable[Mapping]) -> None:
    """Write samples, each with or without a ``distance``, as a list that ``read_extra_samples`` reads."""
    rows: list[Sequence] = [EXTRA_COLUMNS]
    for sample in samples:
        label = sample.get('gt_label')
        diagnosis = {} if label is None else {name: int(CLASSES[label] == name) for name in COLUMNS[1:]}
        rows.append([{**sample, **diagnosis}.get(column) for column in EXTRA_COLUMNS])
    write_csv(path, rows)


def read_rows(
    path: Path, columns: Collection[str], if_missing: str, if_no_column: str, delimiter: str = ','
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV as ``read_cells`` has them: ``'<path>, line <number>'`` for errors, and the cells by column.

    Args:
        path: the table, whose first line names the columns.
        columns: those that have to be there.
        if_missing: the advice if there is no such file.
        if_no_column: the advice if it lacks a column.
        delimiter: the character between the cells.
    """
    names = check_columns(path, columns, if_missing, if_no_column, delimiter)
    rows = read_cells(path, delimiter)
    next(rows, None)
    for number, cells in rows:
        yield f'{path}, line {number}', dict(zip(names, cells, strict=True))


def check_columns(
    path: Path, columns: Collection[str], if_missing: str, if_no_column: str, delimiter: str = ','
) -> list[str]:
    """The names of a table's columns, after the checks that ``read_rows`` makes before the first row."""
    if not path.exists():
        raise MissingFile(f'{path} is missing; {if_missing}')
    if len(delimiter) != 1:
        raise Mistake(f'{path}: the delimiter is {delimiter!r}; it has to be one character')
    names = next(read_cells(path, delimiter), (0, []))[1]
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise Mistake(f'{path} has the column {", ".join(twice)} twice; rename or remove one of them')
    if len(names) == 1 and delimiter == ',' and (other := re.search('[;\t|]', names[0])):
        advice = f'save it with commas, or give a CsvDataset delimiter={other[0]!r}'
        raise Mistake(f'{path}: cells are separated by {other[0]!r}; {advice}')
    if missing := [column for column in columns if column not in names]:
        raise Mistake(f'{path} has no column {", ".join(missing)}; {if_no_column}')
    return names


def set_columns(row: dict[str, str], columns: Sequence[str], where: str) -> list[str] | None:
    """Which of the columns are 1 in a row; None if all are empty. A cell may be written 0, 1, 0.0 or 1.0."""
    if not any(row[column] for column in columns):
        return None
    values = {}
    for column in columns:
        try:
            values[column] = number_in(row[column])
        except ValueError:
            values[column] = -1.0
        if values[column] not in (0.0, 1.0):
            raise Mistake(f'{where}: {column} is {row[column]!r}; write 0 or 1')
    return [column for column, value in values.items() if value == 1.0]


def named_file(
    cell: str, column: str, folder: Path, roots: Sequence[str | Path] | None, endings: Sequence[str] = ()
) -> Path:
    """The file that a cell names, an absolute path or one relative to ``folder``; it need not be there.

    Paths are compared as they are written, since many data sets consist of links to where the files are.

    It has to be in one of ``roots``, where these are given, without ``..`` in its path; the error calls it ``column``.
    A cell may lack one of ``endings``, as where it has an id.
    """
    path = folder / cell
    absolute = Path(os.path.abspath(path))
    is_inside = roots is None or any(absolute.is_relative_to(os.path.abspath(root)) for root in roots)
    if roots is not None and ('..' in Path(cell).parts or not is_inside):
        raise Mistake(
            f'{column}: {cell} is outside {" and ".join(map(str, roots))}; move the file there, or allow it with '
            'outside_data_root=True'
        )
    if not endings or os.path.exists(path):  # which is False of a name that is too long for a file, too
        return path
    files = [file for ending in endings if os.path.isfile(file := path.with_name(f'{path.name}{ending}'))]
    if len({file.stat().st_ino for file in files}) > 1:
        raise Mistake(f'{column}: {path} may be {" or ".join(file.name for file in files)}; name the file in full')
    return files[0] if files else path


def class_or_number(field: str, column: str, cell: str, metainfo: Mapping[str, Any]) -> int | float:
    """What a cell, called ``column`` in errors, says: a class by its name, or a number where classes have no names."""
    names, key = names_of(metainfo, field), names_key(field)
    if not names:
        try:
            return number(cell, column)
        except Mistake as error:
            raise Mistake(
                f'{error}, or name the classes in their order: metainfo=dict({key}=({cell!r}, ...))'
            ) from error
    if cell not in names:
        raise Mistake(
            f'{column} is {cell!r}, and {field} is one of {", ".join(names)}; correct it, or name the classes by '
            f'metainfo=dict({key}=...)'
        )
    return names.index(cell)


def number(cell: str, column: str) -> int | float:
    """A whole number, which may be written 1.0, or a fraction."""
    try:
        value = number_in(cell)
    except ValueError as error:
        raise Mistake(f'{column} is {cell!r}, which is not a number; correct it') from error
    return int(value) if value.is_integer() else value
