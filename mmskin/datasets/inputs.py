"""Reading what the network sees in addition to the image from tables."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from mmengine.dist import is_main_process

from mmskin.datasets.tables import check_columns, read_rows
from mmskin.errors import Mistake
from mmskin.files import SpooledDict
from mmskin.structures import is_known

__all__ = ['input_columns', 'read_inputs']

ID_COLUMNS = ('image_id', 'image', 'isic_id')  # ISIC-2017 and HAM10000, ISIC 2018 to 2020, the archive's own tables


def input_columns(path: Path, names: Collection[str]) -> dict[str, str]:
    """The columns of a table that hold inputs, by the inputs' names: named so, or as ISIC's tables call it.

    That is ``age``, ``age_approx`` or ``age_approximate``. What the table lacks is left out.

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
    for image_id in image_ids:
        if image_id in listed:
            there[image_id] = listed[image_id]
    if not there:
        raise Mistake(
            f'{path} has none of the {len(image_ids)} images, such as {min(image_ids, default="")}; '
            'check that it is the table of these images, and that its ids have no suffix'
        )
    if len(there) < len(image_ids) and is_main_process():
        lacking = len(image_ids) - len(there)
        print(f'{path}: lacks {lacking} of {len(image_ids)} images, which are left unknown', file=sys.stderr)
    return there
