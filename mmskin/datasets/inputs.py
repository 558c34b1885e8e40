"""Reading what the network sees in addition to the image from tables."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from mmskin.datasets.tables import check_columns, read_rows
from mmskin.errors import Mistake
from mmskin.files import SpooledDict
from mmskin.structures import is_known

ID_COLUMNS = ('image_id', 'image', 'isic_id')  # ISIC-2017 and HAM10000, ISIC 2018 to 2020, the archive's own tables


def input_columns(path: Path, names: Collection[str]) -> dict[str, str]:
    """The columns of a table that hold inputs, by the inputs' names: named so, or as ISIC's tables call it.

    That is ``age``, ``age_approx`` or ``age_approximate``. What the table lacks is left out, and said in one line.

    Raises:
        MissingFile: if there is no such table.
        Mistake: if it has a column for none of them, or one whose name has other capitals.
    """
    named = check_columns(path, (), 'check its name.', '')
    options = {name: (name, f'{name}_approx', f'{name}_approximate') for name in names}
    columns = {name: column for name, choices in options.items() for column in reversed(choices) if column in named}
    lacking = {column.lower() for name in names if name not in columns for column in options[name]}
    if near := [column for column in named if column.lower() in lacking]:
        raise Mistake(f'{path} has a column {near[0]}, which is not read; name it {near[0].lower()}, or remove it')
    if not columns:
        raise Mistake(f'{path} has no column {" or ".join(names)}, an input of this network; check the first line')
    if without := [name for name in names if name not in columns]:
        print(f'{path}: has no column {" or ".join(without)}, which counts as unknown', file=sys.stderr)
    return columns


def read_inputs(
    path: Path, columns: Mapping[str, str], image_ids: Collection[str], where_from: str
) -> Mapping[str, dict[str, dict[str, str]]]:
    """The inputs of the images that a table has, by image id, as parts of a sample.

    Those are ``inputs``, the known cells by the inputs' names, and ``inputs_from``, what errors call them. They are on
    the disk, since a table may have very many. It has a column ``image_id``, ``image`` or ``isic_id``. Images that it
    lacks are counted in one line and left unknown; rows of other images are passed over.

    Args:
        path: the table, a CSV in UTF-8 with a line of column names.
        columns: the inputs' columns, by their names.
        image_ids: of the images.
        where_from: what the error says about a table that is missing.

    Raises:
        MissingFile: if there is no such table.
        Mistake: if a column is missing, an id occurs twice, or the table has none of the images.
    """
    listed, there = SpooledDict(), SpooledDict()
    for where, row in read_rows(path, [*columns.values()], where_from, 'name the columns of this table.'):
        id_column = next((column for column in ID_COLUMNS if column in row), None)
        if id_column is None:
            raise Mistake(f'{path} has no column {" or ".join(ID_COLUMNS)}; name the one with the image ids so')
        if row[id_column] in listed:
            raise Mistake(f'{where}: the id {row[id_column]} occurs twice; keep one row')
        known = {name: row[column] for name, column in columns.items() if is_known(row[column])}
        sources = {name: f'{where}: {columns[name]}' for name in known}
        listed[row[id_column]] = {'inputs': known, 'inputs_from': sources}
    check_listed(path, listed, image_ids)
    for image_id in image_ids:
        if image_id in listed:
            there[image_id] = listed[image_id]
    return there


def check_listed(where: str | Path, listed: Mapping[str, Any], image_ids: Collection[str]) -> None:
    """Count in one line the images that a table or a dict by image id lacks."""
    lacking = sum(image_id not in listed for image_id in image_ids)
    if lacking == len(image_ids):
        raise Mistake(
            f'{where} has none of the {lacking} images, such as {min(image_ids, default="")}; '
            'check that it is of these images, and that its ids have no suffix'
        )
    if lacking and is_main_process():
        first = next(image_id for image_id in image_ids if image_id not in listed)
        print(
            f'{where}: lacks {lacking} of {len(image_ids)} images, which are left unknown, such as {first}',
            file=sys.stderr,
        )
