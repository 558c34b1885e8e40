"""Reading the diagnoses of ISIC-2017's Part 3 table."""

import csv
from pathlib import Path

from .lesion_dataset import CLASSES

COLUMNS = ('image_id', 'melanoma', 'seborrheic_keratosis')


def read_labels(path: Path) -> dict[str, int | None]:
    """The class of every row of a Part 3 table: an index into ``CLASSES``, or None where both cells are empty.

    Args:
        path: a CSV with the columns ``image_id``, ``melanoma`` and ``seborrheic_keratosis``, whose values are 0 or 1;
            a row with both 0 is a nevus.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a column is missing, an id occurs twice, a value is neither 0 nor 1, or both are 1.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} is missing; it is the table with the diagnoses, or leave "cls" out of tasks.')
    labels: dict[str, int | None] = {}
    with path.open(newline='', encoding='utf-8-sig') as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        if missing := [column for column in COLUMNS if column not in (rows.fieldnames or ())]:
            raise ValueError(
                f'{path} has no column {", ".join(missing)}; its first line has to be {",".join(COLUMNS)}.'
            )
        for row in rows:
            where = f'{path}, line {rows.line_num}'
            if row['image_id'] in labels:
                raise ValueError(f'{where}: the id {row["image_id"]} occurs twice; keep one row.')
            labels[row['image_id']] = class_of(row, where)
    return labels


def class_of(row: dict[str, str], where: str) -> int | None:
    """The class index of one row."""
    cells = [(row[column] or '').strip() for column in COLUMNS[1:]]
    if not any(cells):
        return None
    flags = [is_set(cell, column, where) for cell, column in zip(cells, COLUMNS[1:], strict=True)]
    if all(flags):
        raise ValueError(f'{where}: {row["image_id"]} is both melanoma and seborrheic_keratosis; set one of them to 0.')
    return CLASSES.index(COLUMNS[1:][flags.index(True)] if any(flags) else 'nevus')


def is_set(cell: str, column: str, where: str) -> bool:
    """Whether a cell is 1; it may be written 0, 1, 0.0 or 1.0."""
    try:
        value = float(cell)
    except ValueError:
        value = -1.0
    if value not in (0.0, 1.0):
        raise ValueError(f'{where}: {column} is {cell!r}; write 0 or 1.')
    return value == 1.0
