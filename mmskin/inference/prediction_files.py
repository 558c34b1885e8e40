"""The folder of results that ``mmskin predict`` writes, image by image."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import cv2
import numpy as np

from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.drawing import FURTHER, PREDICTED, add_caption, draw_outlines, readable, thumbnail
from mmskin.files import csv_line, json_text, write_whole
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.prediction import LesionPrediction
from mmskin.masks import contours_of, write_mask
from mmskin.models.tasks.task import Answer

__all__ = ['PredictionFiles', 'overlay']

OVERLAY_SIZE = 1024  # pixels on the longer side


class PredictionFiles:
    """Writes what was predicted for an image as soon as it is handed over, so that an interruption loses nothing.

    ``predictions.csv`` has the columns ``image_id``, the classes, ``label`` and ``note``, which says where there may be
    no lesion to name; a network without diagnosis leaves ``label`` empty. ``masks/<image id>_segmentation.png`` is
    8-bit, 0 and 255, and of the image's own size. Further tasks have columns ``<task>/<number>`` and ``<task>/label``,
    and masks ``<image id>_<task>.png`` or ``<image id>_<task>_<outline>.png``. An image's row comes after its other
    files.

    Args:
        out_dir: The folder; files of the same names are replaced.
        classes: Names of the diagnoses.
        overlays: Write ``overlays/<image id>.jpg`` with the outline on the image, at most 1024 pixels wide and high.
        probabilities: Write ``probabilities/<image id>.png``, the probability of lesion from 0 to 255, and those of
            further outlines.
        measurements: Write ``predictions.jsonl``, one ``LesionPrediction.to_dict`` a line.
        contours: Write it with the polygons, too.
    """

    def __init__(
        self,
        out_dir: Path,
        classes: Sequence[str],
        overlays: bool = False,
        probabilities: bool = False,
        measurements: bool = False,
        contours: bool = False,
    ) -> None:
        self.out_dir, self.classes = out_dir, classes
        self.overlays, self.probabilities, self.contours = overlays, probabilities, contours
        out_dir.mkdir(parents=True, exist_ok=True)
        self.table = out_dir / 'predictions.csv'
        # the name of a file need not be text in UTF-8; the table is
        self._rows = self.table.open('w', newline='', encoding='utf-8', errors='backslashreplace')
        self._lines: TextIO | None = None
        if measurements or contours:
            self._lines = (out_dir / 'predictions.jsonl').open('w', encoding='utf-8')
        self._has_head = False

    def __enter__(self) -> 'PredictionFiles':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._has_head:
            self._write_row(['image_id', *self.classes, 'label', 'note'])
        self._rows.close()
        if self._lines:
            self._lines.close()

    def write(self, prediction: LesionPrediction, source: ImageSource) -> None:
        """Write everything about one image; ``source`` is read again for the overlay."""
        name = prediction.image_id
        if prediction.mask is not None:
            write_mask(self.out_dir / 'masks' / f'{name}{MASK_SUFFIX}', prediction.mask)
        if prediction.lesion_probability is not None:
            write_image(self.out_dir / 'probabilities' / f'{name}.png', as_grey(prediction.lesion_probability))
        for task, answer in prediction.others.items():
            for folder, pictures in (('masks', answer.masks), ('probabilities', answer.maps)):
                for outline, picture in pictures.items():
                    parts = [name, task] if outline == task else [name, task, re.sub(r'[^\w.-]', '_', outline)]
                    write_image(self.out_dir / folder / f'{"_".join(parts)}.png', as_grey(picture))
        if self.overlays:
            picture = overlay(prediction, source)
            write_image(self.out_dir / 'overlays' / f'{name}.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if self._lines:
            self._lines.write(json_text(prediction.to_dict(self.contours)) + '\n')
            self._lines.flush()
        scores = prediction.probabilities or {}
        cells = [f'{scores[name]:.6f}' if name in scores else '' for name in self.classes]
        further = dict(columns_of(prediction.others))
        if not self._has_head:
            self._write_row(['image_id', *self.classes, 'label', 'note', *further])
            self._has_head = True
        self._write_row([name, *cells, prediction.label or '', prediction.note, *further.values()])

    def _write_row(self, cells: Sequence[str]) -> None:
        self._rows.write(csv_line(cells))
        self._rows.flush()


def columns_of(others: Mapping[str, Answer]) -> Iterator[tuple[str, str]]:
    """What further tasks say as columns of a table and their cells."""
    for task, answer in others.items():
        yield from ((f'{task}/{name}', f'{number:.6f}') for name, number in answer.numbers.items())
        if answer.label is not None:
            yield f'{task}/label', answer.label


def as_grey(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, or a mask, as grey levels from 0 to 255."""
    return np.round(values * 255.0).astype(np.uint8)


def overlay(prediction: LesionPrediction, source: ImageSource) -> np.ndarray:
    """The outlines on the image, RGB with at most 1024 pixels on the longer side; below it a key and what is said."""
    image, _ = source.read(OVERLAY_SIZE * min(prediction.size) / max(prediction.size))
    picture = draw_outlines(thumbnail(image, OVERLAY_SIZE), prediction.contours or [], prediction.size)
    masks = [(f'{task} {name}', mask) for task, one in prediction.others.items() for name, mask in one.masks.items()]
    named = [(readable(name), mask, FURTHER[index % len(FURTHER)]) for index, (name, mask) in enumerate(masks)]
    for _, mask, color in named:
        picture = draw_outlines(picture, contours_of(mask), prediction.size, color)
    if prediction.contours:
        picture = add_caption(picture, 'predicted outline', PREDICTED)
    for name, mask, color in named:
        if mask.any():
            picture = add_caption(picture, name, color)
    if prediction.probabilities:
        by_score = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
        picture = add_caption(picture, '    '.join(f'{readable(name)} {score:.2f}' for name, score in by_score))
    if prediction.note:
        picture = add_caption(picture, prediction.note)
    for task, answer in prediction.others.items():
        if answer.label is not None or answer.numbers:
            numbers = [f'{readable(name)} {number:.2f}' for name, number in answer.numbers.items()]
            picture = add_caption(picture, f'{readable(task)}: {", ".join(numbers)}')
    return picture


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a grey or BGR image in the format of the file's suffix."""
    write_whole(path, cv2.imencode(path.suffix, image)[1].tobytes())
