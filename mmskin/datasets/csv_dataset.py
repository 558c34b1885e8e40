"""Any collection of images, listed in a table."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mmskin.datasets.inputs import known_cells
from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.datasets.tables import CLASSES, class_or_number, named_file, number, read_rows, set_columns
from mmskin.datasets.task_dataset import TaskDataset, check_fields, left_in
from mmskin.errors import Mistake
from mmskin.files import check_name
from mmskin.readers.images import IMAGE_FILES
from mmskin.registry import DATASETS
from mmskin.structures import is_known, names_of

PLACE = re.compile(r'\{([^{}]+)\}')  # of a column in a pattern
SHOWN = 10  # wrong rows in an error
SUFFIXES = [form for suffix in IMAGE_FILES for form in (suffix, suffix.upper())]
MASK_ENDINGS = [MASK_SUFFIX, '_Segmentation.png']  # the latter of ISIC 2016


@DATASETS.register_module()
class CsvDataset(TaskDataset):
    """Images that a CSV lists, with the mask and the diagnosis where it names them.

    The table and the files that it names are checked when the dataset is loaded; image and mask when a sample is. The
    order is the table's. A cell may lack the end of its file's name, as an id does: ``ISIC_0000000`` is then the image
    ``ISIC_0000000.jpg``, and the mask ``ISIC_0000000_segmentation.png`` or, without such a file, ``ISIC_0000000.png``.

    Args:
        csv: the table, in UTF-8 with a line of column names; relative to ``data_root``.
        image_column: the column with the image's file.
        mask_column: the column with the mask's file; None where there are no masks.
        label_column: the column with the class's name, or one column of 0 and 1 for each class, in the classes' order;
            None where there are no diagnoses.
        id_column: the column with the image's id, by default the file's name without its suffix.
        data_root: the folder that files are relative to; by default the table's own.
        outside_data_root: files may lie outside that folder; otherwise a path that leads out of it (an absolute one
            elsewhere, or ``..``) is an error. Links inside the folder may lead anywhere.
        split: take only the rows with this, or one of these, in ``split_column``, such as ``'train'``; None takes all.
        split_column: see ``split``.
        partial_labels: cells of masks and labels may be empty, which is otherwise an error.
        exclude: ids to leave out, such as images that another split holds too.
        delimiter: the character between the cells.
        inputs: columns that the network sees with the image, by the input's name, such as ``dict(age='age')``.
            Cells may be empty or "unknown".
        image: in place of ``image_column``, where images are, by the table's other columns, such as
            ``'images/{image_id}.jpg'``; of several such patterns the first whose file is there.
        mask: likewise in place of ``mask_column``; a mask whose file is not there is an empty cell.
        columns: further ground truth, by the field of the sample that a task names as its ``target``:
            ``dict(gt_sex='sex')`` is a class whose names ``metainfo=dict(gt_sex=('female', 'male'))`` gives, or
            without names a number; several columns are several labels or numbers, such as
            ``dict(gt_labels=('hair', 'ruler'))``. Cells may be empty or "unknown".
        masks: further masks by field, each a column or a pattern as in ``mask``, such as
            ``dict(gt_vessels='vessels')``; several are masks that may overlap. With more than one name in ``metainfo``
            a single file holds the number of a class per pixel.
        options: those of ``TaskDataset``: ``pipeline``, ``seed``, ``indices``, ``test_mode``, ``lazy_init``, and
            ``metainfo``, which names the classes.

    Raises:
        MissingFile: if there is no such table.
        Mistake: if a column is missing, no row is left, or rows are wrong: each is named by its line.
    """

    def __init__(
        self,
        csv: str | Path,
        image_column: str = 'image',
        mask_column: str | None = None,
        label_column: str | Sequence[str] | None = None,
        id_column: str | None = None,
        data_root: str | Path = '',
        outside_data_root: bool = False,
        split: str | Sequence[str] | None = None,
        split_column: str = 'split',
        partial_labels: bool = True,
        exclude: Collection[str] = (),
        delimiter: str = ',',
        inputs: Mapping[str, str] | None = None,
        image: str | Sequence[str] | None = None,
        mask: str | Sequence[str] | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        masks: Mapping[str, str | Sequence[str]] | None = None,
        **options: Any,
    ) -> None:
        self.image_places = places(image or image_column)
        self.mask_places = places(mask or mask_column or ())
        self.columns = {field: places(names) for field, names in (columns or {}).items()}
        self.masks = {field: places(names) for field, names in (masks or {}).items()}
        check_fields([*self.columns, *self.masks])
        self.csv, self.delimiter, self.inputs = csv, delimiter, inputs or {}
        self.id_column = id_column
        self.name_column = label_column if isinstance(label_column, str) else None
        self.flag_columns = () if isinstance(label_column, str) else tuple(label_column or ())
        self.outside_data_root = outside_data_root
        self.split, self.split_column = split, split_column
        self.partial_labels, self.exclude = partial_labels, frozenset(exclude)
        super().__init__(data_root, **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their labels."""
        return tuple(self.metainfo['classes'])

    def load_data_list(self) -> list[dict]:
        """One dict per row, in the table's order."""
        table = Path(self.data_root, self.csv)
        folder = Path(self.data_root) if self.data_root else table.parent
        samples: dict[str, dict] = {}
        complaints = []
        for where, row in self._rows(table):
            try:
                sample = self._sample(row, folder) | known_cells(row, self.inputs, where)
                sample |= self._further(row, folder)
                if sample['image_id'] in samples:
                    raise Mistake(f'the id {sample["image_id"]} occurs twice; name a column of unique ids: id_column')
                samples[sample['image_id']] = sample
            except ValueError as error:
                complaints.append(f'{where}: {error}')
        if complaints:
            more = [f'and {len(complaints) - SHOWN} more rows'] if len(complaints) > SHOWN else []
            raise Mistake('\n'.join([*complaints[:SHOWN], *more]))
        return left_in(list(samples.values()), self.exclude, str(table))

    def _rows(self, table: Path) -> list[tuple[str, dict[str, str]]]:
        """The rows of the split, each with its file and line."""
        if self.flag_columns and len(self.flag_columns) != len(self.classes):
            raise Mistake(f'label_column={self.flag_columns} are not as many as the classes {self.classes}.')
        files = [*self.image_places, *self.mask_places, *chain.from_iterable(self.masks.values())]
        columns = [column for place in files for column in PLACE.findall(place) or [place]]
        columns += [self.name_column, self.id_column, *self.flag_columns, *self.inputs.values()]
        columns += chain.from_iterable(self.columns.values())
        columns += [self.split_column] if self.split else []
        rows = read_rows(
            table,
            [column for column in columns if column],
            'check csv and data_root.',
            'name the columns by image_column, mask_column, label_column, id_column, split_column, columns and masks, '
            f'and the character between the cells by delimiter, which is {self.delimiter!r}.',
            self.delimiter,
        )
        splits = (self.split,) if isinstance(self.split, str) else self.split
        chosen = [(where, row) for where, row in rows if not splits or row[self.split_column] in splits]
        if not chosen:
            condition = f' with {self.split!r} as {self.split_column}.' if self.split else ''
            raise Mistake(f'{table} has no row{condition}')
        return chosen

    def _sample(self, row: dict[str, str], folder: Path) -> dict:
        """One row as a sample, which lacks what the row leaves empty."""
        image = self._file(folder, row, self.image_places)
        assert image is not None, 'an image is not optional'
        image_id = check_name(row[self.id_column] if self.id_column else image.stem, f'{self.id_column or "the id"}:')
        sample = dict(image_id=image_id, img_path=str(image))
        if self.mask_places and (mask := self._file(folder, row, self.mask_places, MASK_ENDINGS, optional=True)):
            if mask == image and mask.name != Path(row.get(self.mask_places[0], '')).name:
                raise Mistake(f'{self.mask_places[0]}: {mask.stem} is the image itself; name its mask')
            sample['seg_map_path'] = str(mask)
        label = self._label(row)
        return sample if label is None else {**sample, 'gt_label': label}

    def _file(
        self,
        folder: Path,
        row: dict[str, str],
        where: Sequence[str],
        endings: Sequence[str] = (),
        optional: bool = False,
    ) -> Path | None:
        """The file that a cell names, or that is at the first of several patterns; None where an optional one is not.

        A name may lack one of the endings or an image's suffix. Only an empty cell and patterns leave out a file.
        """
        roots, path, is_pattern = None if self.outside_data_root else [folder], None, False
        for place in where:
            is_pattern = bool(PLACE.search(place))
            cell = PLACE.sub(lambda found: row[found[1]], place) if is_pattern else row[place]
            for ends in (endings, SUFFIXES) if cell else ():
                path = named_file(cell, place, folder, roots, ends)
                if path.is_file():
                    return path
        if path is None and not optional:
            raise Mistake(f'{place} is empty; name a file')
        if path is not None and not (optional and is_pattern and self.partial_labels):
            raise Mistake(f'{place}: {path} is missing; restore the file, or check data_root')
        self._is_filled('' if path is None else str(path), place)
        return None

    def _label(self, row: dict[str, str]) -> int | None:
        """The class of a row; None if it is left empty."""
        if self.name_column:
            name = row[self.name_column]
            if not self._is_filled(name, self.name_column):
                return None
            if name not in self.classes:
                raise Mistake(
                    f'{self.name_column} is {name!r}, and the classes are {", ".join(self.classes)}; correct it, or '
                    'name the classes by metainfo=dict(classes=...)'
                )
            return self.classes.index(name)
        if not self.flag_columns:
            return None
        columns = ', '.join(self.flag_columns)
        flagged = set_columns(row, self.flag_columns, 'one column for each class')
        if flagged is None:
            self._is_filled('', columns)
            return None
        if len(flagged) != 1:
            raise Mistake(f'{len(flagged)} of the columns {columns} are 1, and one has to be')
        return self.flag_columns.index(flagged[0])

    def _further(self, row: dict[str, str], folder: Path) -> dict:
        """The ground truth in ``columns`` and ``masks`` of a row."""
        sample: dict[str, Any] = {}
        for field, columns in self.columns.items():
            known = [self._is_filled(row[one] if is_known(row[one]) else '', one) for one in columns]
            if not any(known):
                continue
            if len(columns) == 1:
                sample[field] = class_or_number(field, columns[0], row[columns[0]], self.metainfo)
            else:
                cells = [
                    number(row[one], one) if there else math.nan for one, there in zip(columns, known, strict=True)
                ]
                sample[field] = np.array(cells, np.float32)
        files = {
            field: [self._file(folder, row, [one], optional=True) for one in where]
            for field, where in self.masks.items()
        }
        if whole := {field: [str(path) for path in paths] for field, paths in files.items() if all(paths)}:
            sample['mask_paths'] = whole
            sample['mask_classes'] = {field: max(1, len(names_of(self.metainfo, field))) for field in whole}
        for field, paths in files.items():
            if any(paths) and field not in whole:
                lacking = ', '.join(one for one, path in zip(self.masks[field], paths, strict=True) if path is None)
                raise Mistake(
                    f'{lacking}: no file, but other masks of {field} are there; give all of an image, or none'
                )
        return sample

    def _is_filled(self, cell: str, column: str) -> bool:
        """Whether a cell is filled, which it has to be without ``partial_labels``."""
        if not cell and not self.partial_labels:
            raise Mistake(f'{column} is empty; fill it, or allow it with partial_labels=True')
        return bool(cell)


@DATASETS.register_module()
class CsvLesionDataset(CsvDataset):
    """A ``CsvDataset`` of skin lesions, whose classes are ISIC-2017's three unless ``metainfo`` names others."""

    METAINFO = dict(classes=CLASSES)


def places(where: str | Sequence[str]) -> list[str]:
    """Columns, or patterns of files, of which one may stand for itself."""
    return [where] if isinstance(where, str) else [*where]
