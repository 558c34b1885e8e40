"""The folder of results that ``mmskin predict`` writes, image by image."""

import csv
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np

from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.errors import Mistake
from mmskin.files import check_name, csv_line, json_text, plain_cell, refuse_device, whole_file, write_whole
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.prediction import LesionPrediction
from mmskin.masks import LesionMeasurements, coco_segmentation

__all__ = ['CocoFile', 'PredictionFiles', 'cells_of', 'files_of']

MEASURED = tuple(name for name in LesionMeasurements.__dataclass_fields__ if name not in ('bounding_box', 'centroid'))
OF_IMAGES = (  # folders, and what follows an image's id in them
    ('masks', MASK_SUFFIX),
    ('probabilities', '.png'),
    ('overlays', '.jpg'),
    ('explanations', '.png'),
    ('explanations', '.json'),
)


class PredictionFiles:
    """Writes what was predicted for an image as soon as it is handed over, so that an interruption loses nothing.

    ``predictions.csv`` has the columns ``image_id``, the classes, ``label``, ``note``, which says where there may be
    no lesion to name, and the measurements of the lesion, of a network that outlines one.
    ``masks/<image id>_segmentation.png`` is 8-bit, 0 and 255, and of the image's own size. Further tasks have columns
    ``<task>/<number>``, ``<task>/label`` and ``<task>/<outline>``, the share of the image that a mask covers, and masks
    ``<image id>_<task>.png`` or ``<image id>_<task>_<outline>.png``. An image's row comes after its other files.
    Results of an earlier prediction in the same folder are removed.

    Args:
        out_dir: The folder.
        classes: Names of the diagnoses.
        overlays: Write ``overlays/<image id>.jpg`` with the outline on the image, at most 1024 pixels wide and high.
        probabilities: Write ``probabilities/<image id>.png``, the probability of lesion from 0 to 255, and those of
            further outlines.
    """

    def __init__(
        self, out_dir: Path, classes: Sequence[str], overlays: bool = False, probabilities: bool = False
    ) -> None:
        self.out_dir, self.classes, self.overlays, self.probabilities = out_dir, classes, overlays, probabilities
        self.table = out_dir / 'predictions.csv'
        refuse_device(self.table)
        self._remove_earlier()
        out_dir.mkdir(parents=True, exist_ok=True)
        self.table.unlink(missing_ok=True)  # or it would be written through a link
        # the name of a file need not be text in UTF-8; the table is
        self._rows = self.table.open('w', newline='', encoding='utf-8', errors='backslashreplace')
        self._has_head = False

    def _remove_earlier(self) -> None:
        """Remove the files of the images that the table in the folder lists: they would pass for this run's."""
        if not self.table.is_file():
            return
        with self.table.open(newline='', encoding='utf-8', errors='surrogateescape') as file:
            rows = self._rows_of(file)
            first, *others = next(rows, ['image_id'])
            if first != 'image_id':
                raise Mistake(f'{self.table}: is not a table of predictions, and would be lost; name another folder')
            for cells in rows:
                try:
                    image_id = '/'.join(check_name(part, '') for part in plain_cell(cells[0]).split('/'))
                except Mistake:
                    continue  # none that we wrote
                names = [f'{folder}/{image_id}{suffix}' for folder, suffix in OF_IMAGES]
                for task, _, outline in (column.partition('/') for column in others if '/' in column):
                    names += [picture_name(folder, image_id, task, outline) for folder in ('masks', 'probabilities')]
                for name in names:
                    (self.out_dir / name).unlink(missing_ok=True)

    def _rows_of(self, file: IO[str]) -> Iterator[list[str]]:
        try:
            yield from filter(None, csv.reader(file))
        except csv.Error as error:
            raise Mistake(f'{self.table}: damaged ({error}); remove it, or name another folder') from error

    def __enter__(self) -> 'PredictionFiles':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._has_head:
            self._write_row(['image_id', *self.classes, 'label', 'note', *MEASURED])
        self._rows.close()

    def write(self, prediction: LesionPrediction, source: ImageSource) -> None:
        """Write everything about one image; ``source`` is read again for the overlay."""
        for name, content in files_of(prediction, source if self.overlays else None):
            write_whole(self.out_dir / name, content)
        cells = cells_of(prediction, self.classes)
        if not self._has_head:
            self._write_row([*cells])
            self._has_head = True
        self._write_row([*cells.values()])

    def _write_row(self, cells: Sequence[str]) -> None:
        self._rows.write(csv_line(cells))
        self._rows.flush()


class CocoFile:
    """Writes predictions as annotations of COCO: for each image with a lesion, its outline, box and class.

    The category is the predicted class, or ``lesion`` of a network that names none; ``score`` is its probability. The
    file is there from the start, and has its content when the block ends, however it ends; until then what is gathered
    waits on the disk.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path = path
        self.categories = list(classes) or ['lesion']
        names = ('images', 'annotations')
        self.parts: dict[str, IO[str]] = {name: TemporaryFile('w+') for name in names}  # noqa: SIM115
        self.counts = dict.fromkeys(self.parts, 0)

    def __enter__(self) -> 'CocoFile':
        self._write()  # now, not in the end, it is said if that fails
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        for part in self.parts.values():
            part.close()

    def add(self, prediction: LesionPrediction) -> None:
        """Take one image."""
        height, width = prediction.size
        name = prediction.path or prediction.image_id
        image_id = self._add('images', dict(file_name=name, height=height, width=width))
        measured = prediction.measurements
        if measured is None or prediction.mask is None:
            return
        label = prediction.label if prediction.label in self.categories else self.categories[0]
        score = (prediction.probabilities or {}).get(label)
        annotation: dict[str, Any] = dict(image_id=image_id, iscrowd=0, area=measured.area)
        annotation |= dict(category_id=self.categories.index(label) + 1, bbox=list(measured.bounding_box))
        annotation |= dict(
            segmentation=coco_segmentation(prediction.mask), **({} if score is None else {'score': score})
        )
        self._add('annotations', annotation)

    def _add(self, part: str, entry: Mapping[str, Any]) -> int:
        """Take an entry of a part; its id."""
        self.counts[part] += 1
        separator = ', ' if self.counts[part] > 1 else ''
        self.parts[part].write(separator + json_text({'id': self.counts[part], **entry}))
        return self.counts[part]

    def _write(self) -> None:
        categories = [dict(id=number, name=name) for number, name in enumerate(self.categories, 1)]
        with whole_file(self.path) as file:
            file.write(b'{')
            for name, part in self.parts.items():
                part.seek(0)
                file.write(f'"{name}": ['.encode())
                shutil.copyfileobj(part.buffer, file)  # type: ignore[attr-defined]
                file.write(b'], ')
            file.write(f'"categories": {json_text(categories)}}}\n'.encode())


def files_of(prediction: LesionPrediction, source: ImageSource | None = None) -> Iterator[tuple[str, bytes]]:
    """The pictures of one image, by their paths in the folder of results; with the overlay if ``source`` is given."""
    name = prediction.image_id
    pictures = {}
    if prediction.mask is not None:
        pictures[f'masks/{name}{MASK_SUFFIX}'] = prediction.mask
    if prediction.lesion_probability is not None:
        pictures[f'probabilities/{name}.png'] = prediction.lesion_probability
    for task, answer in prediction.others.items():
        for folder, pictures_by_outline in (('masks', answer.masks), ('probabilities', answer.maps)):
            for outline, picture in pictures_by_outline.items():
                pictures[picture_name(folder, name, task, outline)] = picture
    for path, picture in pictures.items():  # from 0 to 1
        yield path, cv2.imencode('.png', np.round(picture * 255.0).astype(np.uint8))[1].tobytes()
    if source is not None:
        overlay = cv2.cvtColor(np.asarray(prediction.overlay(source)), cv2.COLOR_RGB2BGR)
        yield f'overlays/{name}.jpg', cv2.imencode('.jpg', overlay)[1].tobytes()


def picture_name(folder: str, image_id: str, task: str, outline: str) -> str:
    """Where the mask or the map of a further task goes in the folder of results."""
    named = [task] if outline == task else [task, outline]
    return f'{folder}/{image_id}_' + '_'.join(re.sub(r'[^\w.-]', '_', part) for part in named) + '.png'


def cells_of(prediction: LesionPrediction, classes: Sequence[str]) -> dict[str, str]:
    """The row of one image in the table of results, by column."""
    scores = prediction.probabilities or {}
    measured = asdict(prediction.measurements) if prediction.measurements else {}
    if prediction.mask is not None and not measured:
        measured = {'area': 0, 'area_fraction': 0.0, 'num_components': 0, 'touches_frame': False}
    outlined = MEASURED if prediction.mask is not None else ()
    columns = {key: '' if measured.get(key) is None else measured[key] for key in outlined}
    cells = {
        'image_id': prediction.image_id,
        **{name: f'{scores[name]:.6f}' if name in scores else '' for name in classes},
        'label': prediction.label or '',
        'note': prediction.note,
        **{key: f'{value:.6g}' if isinstance(value, float) else str(value) for key, value in columns.items()},
    }
    for task, answer in prediction.others.items():
        cells |= {f'{task}/{name}': f'{number:.6f}' for name, number in answer.numbers.items()}
        cells |= {f'{task}/{outline}': f'{mask.mean():.6f}' for outline, mask in answer.masks.items()}
        if answer.label is not None:
            cells[f'{task}/label'] = answer.label
    return cells
