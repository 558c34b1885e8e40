"""Any collection of lesions, listed in a table."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmskin.datasets.inputs import known_cells
from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.datasets.lesion_dataset import LesionDataset, left_in
from mmskin.datasets.tables import named_file, read_rows, set_columns
from mmskin.errors import Mistake
from mmskin.files import check_name
from mmskin.readers.images import IMAGE_FILES
from mmskin.registry import DATASETS

SHOWN = 10  # wrong rows in an error
SUFFIXES = [form for suffix in IMAGE_FILES for form in (suffix, suffix.upper())]
MASK_ENDINGS = [MASK_SUFFIX, '_Segmentation.png']  # the latter of ISIC 2016


@DATASETS.register_module()
class CsvLesionDataset(LesionDataset):
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
        options: those of ``LesionDataset``: ``pipeline``, ``seed``, ``indices``, ``test_mode``, ``lazy_init``, and
            ``metainfo``, whose ``classes`` are ISIC-2017's three by default.

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
        **options: Any,
    ) -> None:
        self.csv, self.delimiter, self.inputs = csv, delimiter, inputs or {}
        self.image_column, self.mask_column, self.id_column = image_column, mask_column, id_column
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
        columns = [self.image_column, self.mask_column, self.name_column, self.id_column, *self.flag_columns]
        columns += self.inputs.values()
        columns += [self.split_column] if self.split else []
        rows = read_rows(
            table,
            [column for column in columns if column],
            'check csv and data_root.',
            'name the columns by image_column, mask_column, label_column, id_column and split_column, and the '
            f'character between the cells by delimiter, which is {self.delimiter!r}.',
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
        image = self._file(folder, row, self.image_column)
        image_id = check_name(row[self.id_column] if self.id_column else image.stem, f'{self.id_column or "the id"}:')
        sample = dict(image_id=image_id, img_path=str(image))
        if self.mask_column and self._is_filled(row[self.mask_column], self.mask_column):
            mask = self._file(folder, row, self.mask_column, MASK_ENDINGS)
            if mask == image and mask.name != Path(row[self.mask_column]).name:
                raise Mistake(f'{self.mask_column}: {row[self.mask_column]} is the image itself; name its mask')
            sample['seg_map_path'] = str(mask)
        label = self._label(row)
        return sample if label is None else {**sample, 'gt_label': label}

    def _file(self, folder: Path, row: dict[str, str], column: str, endings: Sequence[str] = ()) -> Path:
        """The file that a cell names, perhaps without one of these endings or an image's suffix."""
        if not row[column]:
            raise Mistake(f'{column} is empty; name a file')
        roots = None if self.outside_data_root else [folder]
        path = named_file(row[column], column, folder, roots, endings)
        if not path.is_file():
            path = named_file(row[column], column, folder, roots, SUFFIXES)
        if not path.is_file():
            raise Mistake(f'{column}: {path} is missing; restore the file, or check data_root')
        return path

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

    def _is_filled(self, cell: str, column: str) -> bool:
        """Whether a cell is filled, which it has to be without ``partial_labels``."""
        if not cell and not self.partial_labels:
            raise Mistake(f'{column} is empty; fill it, or allow it with partial_labels=True')
        return bool(cell)
