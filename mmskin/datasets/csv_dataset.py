"""Any collection of images, listed in a table."""

import gc
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import mmskin
from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.datasets.rows import Rows, once_per_machine, stamp
from mmskin.datasets.storage import described, listing
from mmskin.datasets.tables import CLASSES, check_columns, class_or_number, named_file, number, set_columns
from mmskin.datasets.task_dataset import TaskDataset, check_fields, left_in
from mmskin.errors import Mistake
from mmskin.files import check_name, read_columns
from mmskin.readers.images import IMAGE_FILES
from mmskin.registry import DATASETS
from mmskin.structures import is_known, names_key, names_of

PLACE = re.compile(r'\{([^{}]+)\}')  # of a column in a pattern
SHOWN = 10  # wrong rows in an error
SHARED_FROM = 2**20  # bytes of a table that is read once per machine
SUFFIXES = [form for suffix in IMAGE_FILES for form in (suffix, suffix.upper())]
MASK_ENDINGS = [MASK_SUFFIX, '_Segmentation.png']  # the latter of ISIC 2016


@DATASETS.register_module()
class CsvDataset(TaskDataset):
    """Images that a CSV lists, with the mask and the diagnosis where it names them.

    The table is checked when the dataset is loaded, and that its files are there, by one list of each folder; image and
    mask when a sample is. Of a table from 1 MB on, one process of a machine makes an Arrow file in the user's cache.
    All map it into their memory, as long as table and folders stay as they are. The order is the table's.

    A cell may lack the end of its file's name, as an id does: ``ISIC_0000000`` is then the image ``ISIC_0000000.jpg``,
    and the mask ``ISIC_0000000_segmentation.png`` or, without such a file, ``ISIC_0000000.png``.

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
        split: take only the rows with this, or one of these, in ``split_column``, such as ``'train'``; each has to be
            there, and None takes all.
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
            ``dict(gt_labels=('hair', 'ruler'))``. Cells may be empty or "unknown". A column that lists any of several
            labels is ``dict(gt_labels=dict(column='findings', separator='|'))``, whose names ``metainfo`` gives;
            ``none='normal'`` is the cell without any, which may be ``''``.
        masks: further masks by field, each a column or a pattern as in ``mask``, such as
            ``dict(gt_vessels='vessels')``; several are masks that may overlap. With more than one name in ``metainfo``
            a single file holds the number of a class per pixel.
        backend_args: where images and masks are, if they are no files: an MMEngine backend, such as
            ``dict(backend='lmdb', db_path='images.lmdb')``, or ``dict(backend='tar', path='shards')`` (see
            ``TarBackend``). Cells are then names there.
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
        columns: Mapping[str, str | Sequence[str] | Mapping[str, str]] | None = None,
        masks: Mapping[str, str | Sequence[str]] | None = None,
        backend_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.image_places = places(image or image_column)
        self.mask_places = places(mask or mask_column or ())
        further: dict[str, Any] = dict(columns or {})
        self.listed = {field: listed(field, column) for field, column in further.items() if isinstance(column, Mapping)}
        further |= {field: column['column'] for field, column in self.listed.items()}
        self.columns = {field: places(names) for field, names in further.items()}
        self.masks = {field: places(names) for field, names in (masks or {}).items()}
        check_fields([*self.columns, *self.masks])
        self.csv, self.delimiter, self.inputs = csv, delimiter, inputs or {}
        self.id_column = id_column
        self.name_column = label_column if isinstance(label_column, str) else None
        self.flag_columns = () if isinstance(label_column, str) else tuple(label_column or ())
        self.outside_data_root, self.backend_args = outside_data_root, dict(backend_args) if backend_args else None
        self.split, self.split_column = split, split_column
        if split is not None and not split:
            raise Mistake(f'split={split!r} takes no row; name one or more, or None for all')
        self.partial_labels, self.exclude = partial_labels, frozenset(exclude)
        super().__init__(data_root, serialize_data=False, **options)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their labels."""
        return tuple(self.metainfo['classes'])

    def load_data_list(self) -> Rows:
        """A row for each of the table's, in its order; those of a large table are made once for all processes."""
        if self.flag_columns and len(self.flag_columns) != len(self.classes):
            raise Mistake(f'label_column={self.flag_columns} are not as many as the classes {self.classes}')
        table = Path(self.data_root, self.csv)
        folder = Path(self.data_root) if self.data_root else table.parent
        if table.is_file() and table.stat().st_size >= SHARED_FROM:
            name: list[Any] = [
                os.path.abspath(table),
                os.path.abspath(folder),
                str(folder),
                self.split,
                self.split_column,
            ]
            name += [self.image_places, self.mask_places, self.columns, self.masks, dict(self.inputs), self.id_column]
            name += [self.name_column, self.flag_columns, self.delimiter, self.metainfo, self.backend_args, self.listed]
            made_of = [mmskin.__version__, self.outside_data_root, self.partial_labels]
            collects = gc.isenabled()
            gc.disable()  # strings are no garbage, and it would look through all of torch again and again
            try:
                rows = once_per_machine(name, made_of, lambda: self._read(table, folder))
            finally:
                if collects:
                    gc.enable()
        else:
            rows = Rows(self._read(table, folder)[0])
        return rows.take(left_in(rows.column('image_id'), self.exclude, str(table))) if self.exclude else rows

    def get_data_info(self, idx: int) -> dict:
        """A sample: its row, and what follows from it."""
        info = super().get_data_info(idx)
        line, inputs = info.pop('line'), info.setdefault('inputs', {})
        table = Path(self.data_root, self.csv)
        info['inputs_from'] = {name: f'{table}, line {line}: {self.inputs[name]}' for name in inputs}
        for field in self.columns.keys() & info.keys():
            value = info[field]
            if isinstance(value, list):
                info[field] = np.array(value, np.float32)
            elif value.is_integer():
                info[field] = int(value)
        if 'mask_paths' in info:
            classes = {field: len(names_of(self._metainfo, field)) for field in info['mask_paths']}
            info['mask_classes'] = {field: max(1, count) for field, count in classes.items()}
        if self.backend_args:
            info['backend_args'] = self.backend_args
        return info

    def _read(self, table: Path, folder: Path) -> tuple[pa.Table, dict[str, list[int] | None]]:
        """The samples of the table, and what they were made from, for ``once_per_machine``."""
        folders = Folders(folder, self.outside_data_root, self.backend_args)
        sources = {os.path.abspath(table): stamp(table)}
        fields = self._fields(folders)
        splits = {self.split} if isinstance(self.split, str) else {*(self.split or ())}
        columns = [column for needed, _, _ in fields.values() for column in needed]
        columns += [column for column in (self.id_column, self.split_column if splits else None) if column]
        check_columns(
            table,
            dict.fromkeys(columns),
            'check csv and data_root.',
            'name the columns by image_column, mask_column, label_column, id_column, split_column, columns and masks, '
            f'and the character between the cells by delimiter, which is {self.delimiter!r}.',
            self.delimiter,
        )
        types = {name: kind for name, (_, _, kind) in fields.items()}
        schema = pa.schema({'image_id': pa.string(), **types, 'line': pa.int64()})
        batches: list[pa.RecordBatch] = []
        faults: dict[int, str] = {}
        absent = {*splits}
        for lines, cells in read_columns(table, columns, self.delimiter):
            absent.difference_update(cells[self.split_column] if absent else ())
            if splits and not splits.issuperset(cells[self.split_column]):
                kept = [cell in splits for cell in cells[self.split_column]]
                lines, cells = [*compress(lines, kept)], {name: [*compress(cells[name], kept)] for name in cells}
            values: dict[str, Sequence] = {'line': lines}
            for name, (needed, read, _) in fields.items():
                values[name] = read_each(read, [cells[column] for column in needed], lines, faults)
            images, masks = values['img_path'], values.get('seg_map_path', [])
            ids = cells[self.id_column] if self.id_column else [image and stem_of(image) for image in images]
            check = partial(check_name, what=f'{self.id_column or "the id"}:')
            values['image_id'] = read_each(check, [ids], lines, faults)
            for index in [index for index, mask in enumerate(masks) if mask and mask == images[index]]:
                if Path(masks[index]).name != Path(cells.get(self.mask_places[0], [''] * len(lines))[index]).name:
                    fault = f'{self.mask_places[0]}: {stem_of(masks[index])} is the image itself; name its mask'
                    faults.setdefault(lines[index], fault)
            arrays = [pa.array(values[name], schema.field(name).type) for name in schema.names]
            batches.append(pa.record_batch(arrays, schema=schema))
        rows = pa.Table.from_batches(batches, schema)
        if absent or not len(rows):
            condition = f' with {" or ".join(map(repr, sorted(absent)))} as {self.split_column}.' if absent else ''
            raise Mistake(f'{table} has no row{condition}')
        if len(rows.column('image_id').unique()) < len(rows):
            seen: set[str] = set()
            for image_id, line in zip(*(rows.column(name).to_pylist() for name in ('image_id', 'line')), strict=True):
                if image_id in seen and image_id is not None:
                    fault = f'the id {image_id} occurs twice; name a column of unique ids: id_column'
                    faults.setdefault(line, fault)
                seen.add(image_id)
        if faults:
            more = [f'and {len(faults) - SHOWN} more rows'] if len(faults) > SHOWN else []
            listed = [f'{table}, line {line}: {faults[line]}' for line in sorted(faults)[:SHOWN]]
            raise Mistake('\n'.join([*listed, *more]))
        return rows, sources | folders.stamps

    def _fields(self, folders: 'Folders') -> dict[str, tuple[Sequence[str], Callable, pa.DataType]]:
        """What is read of a row: the columns that each field needs, a function of their cells, and its type."""
        fields: dict[str, tuple[Sequence[str], Callable, pa.DataType]] = {}
        often = lru_cache(4096)  # of what few values occur
        needed = columns_in(self.image_places)
        fields['img_path'] = needed, Finder(folders, self.image_places, needed), pa.string()
        if self.mask_places:
            needed = columns_in(self.mask_places)
            find = Finder(folders, self.mask_places, needed, MASK_ENDINGS, True, self.partial_labels)
            fields['seg_map_path'] = needed, find, pa.string()
        if label_columns := [self.name_column] if self.name_column else [*self.flag_columns]:
            fields['gt_label'] = label_columns, often(self._label), pa.int64()
        for name, column in self.inputs.items():
            fields[f'inputs/{name}'] = [column], often(lambda cell: cell if is_known(cell) else None), pa.string()
        for field, names in self.columns.items():
            is_one = len(names) == 1 and field not in self.listed
            fields[field] = (
                names,
                often(partial(self._truth, field)),
                pa.float64() if is_one else pa.list_(pa.float32()),
            )
        for field, where in self.masks.items():
            needed = columns_in(where)
            finders = [Finder(folders, [place], needed, (), True, self.partial_labels) for place in where]
            fields[f'mask_paths/{field}'] = needed, partial(self._masks, field, finders), pa.list_(pa.string())
        return fields

    def _label(self, *cells: str) -> int | None:
        """The class of a row; None if it is left empty."""
        if self.name_column:
            (name,) = cells
            if not self._is_filled(name, self.name_column):
                return None
            if name not in self.classes:
                raise Mistake(
                    f'{self.name_column} is {name!r}, and the classes are {", ".join(self.classes)}; correct it, or '
                    'name the classes by metainfo=dict(classes=...)'
                )
            return self.classes.index(name)
        columns = ', '.join(self.flag_columns)
        row = dict(zip(self.flag_columns, cells, strict=True))
        flagged = set_columns(row, self.flag_columns, 'one column for each class')
        if flagged is None:
            self._is_filled('', columns)
            return None
        if len(flagged) != 1:
            raise Mistake(f'{len(flagged)} of the columns {columns} are 1, and one has to be')
        return self.flag_columns.index(flagged[0])

    def _truth(self, field: str, *cells: str) -> int | float | list[float] | None:
        """The ground truth of a field of ``columns``; None if it is left empty."""
        columns = self.columns[field]
        if field in self.listed:
            return self._labels(field, cells[0].strip())
        named = [*zip(columns, cells, strict=True)]
        known = [self._is_filled(cell if is_known(cell) else '', column) for column, cell in named]
        if not any(known):
            return None
        if len(columns) == 1:
            return class_or_number(field, columns[0], cells[0], self.metainfo)
        return [number(cell, column) if there else math.nan for (column, cell), there in zip(named, known, strict=True)]

    def _labels(self, field: str, cell: str) -> list[float] | None:
        """0 or 1 for each of a field's labels, which a cell lists; None if it is left empty."""
        column, separator, none = (self.listed[field].get(key) for key in ('column', 'separator', 'none'))
        names = names_of(self.metainfo, field)
        if not names:
            raise Mistake(f'name the labels that {column} lists: metainfo=dict({names_key(field)}=(...))')
        if cell == none:
            return [0.0] * len(names)
        if not self._is_filled(cell if is_known(cell) else '', str(column)):
            return None
        labels = {part.strip() for part in cell.split(separator)}
        if unknown := sorted(labels - {*names}):
            raise Mistake(
                f'{column} lists {unknown[0]!r}, and the labels of {field} are {", ".join(names)}; correct it, or name '
                f'it by metainfo=dict({names_key(field)}=...), or by none={unknown[0]!r} if it says that there is none'
            )
        return [float(name in labels) for name in names]

    def _masks(self, field: str, finders: Sequence[Callable[..., str | None]], *cells: str) -> list[str] | None:
        """The files of a field of ``masks``; None if there is none."""
        paths = [find(*cells) for find in finders]
        if any(paths) and not all(paths):
            lacking = ', '.join(place for place, path in zip(self.masks[field], paths, strict=True) if path is None)
            raise Mistake(f'{lacking}: no file, but other masks of {field} are there; give all of an image, or none')
        return [path for path in paths if path] or None

    def _is_filled(self, cell: str, column: str) -> bool:
        """Whether a cell is filled, which it has to be without ``partial_labels``."""
        if not cell and not self.partial_labels:
            raise Mistake(f'{column} is empty; fill it, or allow it with partial_labels=True')
        return bool(cell)


@DATASETS.register_module()
class CsvLesionDataset(CsvDataset):
    """A ``CsvDataset`` of skin lesions, whose classes are ISIC-2017's three unless ``metainfo`` names others."""

    METAINFO = dict(classes=CLASSES)


class Folders:
    """Where a table's files are, by a list of each folder: over a network, a question for each file takes minutes.

    Args:
        root: the folder that cells are relative to.
        anywhere: files may lie outside of it.
        backend_args: the storage whose names cells are instead.

    Attributes:
        stamps: of the folders, each when it was listed.
    """

    def __init__(self, root: Path, anywhere: bool, backend_args: Mapping[str, Any] | None = None) -> None:
        self.root, self.roots = root, None if anywhere else [root]
        self.stamps: dict[str, list[int] | None] = {}
        self.start = str(Path(root, 'x'))[:-1]
        self.listed: set[str] = set()
        self.known: set[str] = set()  # the cells that name the files of the folders so far
        self.unsure: set[str] = set()
        self.storage = described(backend_args) if backend_args else ''
        if backend_args:
            names, self.stamps = listing(backend_args)
            self.start = ''
            self.known = AnyName() if names is None else {*names}

    def path(self, cell: str) -> str:
        """The path of the file that a cell names, where ``known`` has it."""
        return cell if cell[:1] == '/' else self.start + cell

    def find(self, cell: str, groups: Sequence[Sequence[str]]) -> str | None:
        """The file that a cell names, which may lack an ending of one of the groups.

        Returns:
            The path; '' where there is no such file; None where a list does not say which it is.
        """
        parent = cell[: cell.rfind('/') + 1]
        if not self.storage and parent not in self.listed:
            self._list(parent)
        if cell in self.known:
            return self.path(cell)
        if parent in self.unsure:
            return None
        for endings in groups if parent != cell else ():
            there = [ending for ending in endings if cell + ending in self.known]
            if there:
                return self.path(cell + there[0]) if len(there) == 1 else None
        return ''

    def _list(self, parent: str) -> None:
        self.listed.add(parent)
        prefix, names = str(Path(self.root, parent, 'x'))[:-1], set()
        try:
            named_file(f'{parent}x', '', self.root, self.roots)
            self.stamps[os.path.abspath(prefix)] = stamp(prefix or '.')
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(prefix or '.') as entries:
                names = {parent + entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)}
            if prefix == self.path(parent):
                self.known |= names
            else:
                self.unsure.add(parent)
        except (Mistake, OSError):  # it is no matter of lists then
            self.unsure.add(parent)


class AnyName(set):
    """The names of a storage that does not list its own."""

    def __contains__(self, name: object) -> bool:
        return bool(name)

    def issuperset(self, names: Iterable[Any]) -> bool:
        """Whether all of them are names."""
        return all(names)


class Finder:
    """Finds the file that a cell names, or that is at the first of several patterns.

    Called with a row's cells it gives the path, and None where an optional file is not there. A name may lack one of
    the endings or an image's suffix. Only an empty cell and patterns leave out a file.

    Args:
        folders: where to look.
        where: columns or patterns.
        columns: those whose cells are given.
        endings: see above.
        optional: a cell may be empty, and nothing at a pattern.
        partial_labels: whether it may indeed.
    """

    def __init__(
        self,
        folders: Folders,
        where: Sequence[str],
        columns: Sequence[str],
        endings: Sequence[str] = (),
        optional: bool = False,
        partial_labels: bool = False,
    ) -> None:
        self.folders, self.where, self.optional, self.partial_labels = folders, where, optional, partial_labels
        self.groups = [endings, SUFFIXES] if endings else [SUFFIXES]
        self.may_lack = optional and partial_labels and bool(PLACE.search(where[-1]))
        places = {column: f'{{{index}}}' for index, column in enumerate(columns)}
        self.forms: list[str] = []
        for place in where:
            parts = PLACE.split(place)  # every other one is a column's name
            parts[::2] = [text.replace('{', '{{').replace('}', '}}') for text in parts[::2]]
            parts[1::2] = [places[column] for column in parts[1::2]]
            self.forms.append(''.join(parts) if len(parts) > 1 else places[place])

    def all(self, columns: Sequence[Sequence[str]]) -> list[str] | None:
        """The paths of all rows, where the first place names the file of each in full, in a folder that is listed."""
        form = self.forms[0]
        names = columns[int(form[1:-1])] if form[1:-1].isdecimal() else [*map(form.format, *columns)]
        return [*map(self.folders.path, names)] if self.folders.known.issuperset(names) else None

    def __call__(self, *cells: str) -> str | None:
        named = [form.format(*cells) for form in self.forms]
        for name in named:
            path = self.folders.find(name, self.groups)
            if path:
                return path
            if path is None:
                break
        else:
            if self.may_lack:
                return None
        if self.folders.storage and any(named):
            if self.may_lack:
                return None
            raise Mistake(
                f'{self.where[-1]}: {named[-1]} is not in {self.folders.storage}; correct it, or add the file'
            )
        file = None
        for place, name in zip(self.where, named, strict=True):
            for endings in self.groups if name else ():
                file = named_file(name, place, self.folders.root, self.folders.roots, endings)
                if os.path.isfile(file):
                    return str(file)
        if file is not None and not self.may_lack:
            raise Mistake(f'{self.where[-1]}: {file} is missing; restore the file, or check data_root')
        if not self.optional:
            raise Mistake(f'{self.where[-1]} is empty; name a file')
        if not self.partial_labels:
            raise Mistake(f'{self.where[-1]} is empty; fill it, or allow it with partial_labels=True')
        return None


def read_each(
    read: Callable[..., Any], columns: Sequence[Sequence[str]], lines: Sequence[int], faults: dict[int, str]
) -> list:
    """What a function makes of each row's cells, None where it is at fault; the first fault of a line is noted."""
    if isinstance(read, Finder) and (paths := read.all(columns)):
        return paths
    with suppress(ValueError):
        return [*map(read, *columns)]
    values: list = []
    for line, cells in zip(lines, zip(*columns, strict=True), strict=True):
        try:
            values.append(read(*cells))
        except ValueError as error:
            faults.setdefault(line, str(error))
            values.append(None)
    return values


def stem_of(path: str) -> str:
    """A file's name without its suffix, as pathlib has it, and much faster."""
    return os.path.splitext(os.path.basename(path))[0]


def columns_in(where: Sequence[str]) -> list[str]:
    """The columns that are named by patterns of files, or that name files themselves."""
    return [*dict.fromkeys(column for place in where for column in PLACE.findall(place) or [place])]


def listed(field: str, options: Mapping[str, str]) -> dict[str, str]:
    """The checked options of a column that lists several labels."""
    if {'column', 'separator'} - options.keys() or options.keys() - {'column', 'separator', 'none'}:
        raise Mistake(
            f"columns[{field!r}] is {dict(options)}; give dict(column='...', separator='|'), and none='...' if any"
        )
    return dict(options)


def places(where: str | Sequence[str]) -> list[str]:
    """Columns, or patterns of files, of which one may stand for itself."""
    return [where] if isinstance(where, str) else [*where]
