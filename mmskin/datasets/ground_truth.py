"""Reading the diagnoses of ISIC-2017's Part 3 table."""

from collections.abc import Sequence
from pathlib import Path

from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.datasets.table import read_rows
from mmskin.errors import Mistake

COLUMNS = ('image_id', 'melanoma', 'seborrheic_keratosis')


def read_labels(path: Path) -> dict[str, int | None]:
    """The class of every row of a Part 3 table: an index into ``CLASSES``, or None where both cells are empty.

    Args:
        path: a CSV with the columns ``image_id``, ``melanoma`` and ``seborrheic_keratosis``, whose values are 0 or 1;
            a row with both 0 is a nevus.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if a column is missing, an id occurs twice, a value is neither 0 nor 1, or both are 1.
    """
    labels: dict[str, int | None] = {}
    where_from = 'it is the table with the diagnoses, or leave "cls" out of tasks.'
    for where, row in read_rows(path, COLUMNS, where_from, f'its first line has to be {",".join(COLUMNS)}.'):
        if row['image_id'] in labels:
            raise Mistake(f'{where}: the id {row["image_id"]} occurs twice; keep one row.')
        labels[row['image_id']] = class_of(row, where)
    return labels


def class_of(row: dict[str, str], where: str) -> int | None:
    """The class index of one row."""
    names = set_columns(row, COLUMNS[1:], where)
    if names is None:
        return None
    if len(names) > 1:
        raise Mistake(f'{where}: {row["image_id"]} is both {" and ".join(names)}; set one of them to 0.')
    return CLASSES.index(names[0] if names else 'nevus')


def set_columns(row: dict[str, str], columns: Sequence[str], where: str) -> list[str] | None:
    """Which of the columns are 1 in a row; None if all are empty."""
    if not any(row[column] for column in columns):
        return None
    return [column for column in columns if is_set(row[column], column, where)]


def is_set(cell: str, column: str, where: str) -> bool:
    """Whether a cell is 1; it may be written 0, 1, 0.0 or 1.0."""
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if value not in (0.0, 1.0):
        raise Mistake(f'{where}: {column} is {cell!r}; write 0 or 1.')
    return value == 1.0
