"""The folder of results that ``mmskin predict`` writes, image by image."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

import cv2
import numpy as np

from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.drawing import PREDICTED, add_caption, draw_outlines, readable, thumbnail
from mmskin.files import csv_line, json_text, write_whole
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.prediction import LesionPrediction
from mmskin.masks import write_mask

__all__ = ['PredictionFiles', 'overlay']

OVERLAY_SIZE = 1024  # pixels on the longer side


class PredictionFiles:
    """Writes what was predicted for an image as soon as it is handed over, so that an interruption loses nothing.

    ``predictions.csv`` has the columns ``image_id``, the classes and ``label``; a network without diagnosis leaves them
    empty. ``masks/<image id>_segmentation.png`` is 8-bit, 0 and 255, and of the image's own size. An image's row comes
    after its other files.

    Args:
        out_dir: The folder; files of the same names are replaced.
        classes: Names of the diagnoses.
        overlays: Write ``overlays/<image id>.jpg`` with the outline on the image, at most 1024 pixels wide and high.
        probabilities: Write ``probabilities/<image id>.png``, the probability of lesion from 0 to 255.
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
        self._write_row(['image_id', *classes, 'label'])

    def __enter__(self) -> 'PredictionFiles':
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.close()
        if self._lines:
            self._lines.close()

    def write(self, prediction: LesionPrediction, source: ImageSource) -> None:
        """Write everything about one image; ``source`` is read again for the overlay."""
        name = prediction.image_id
        if prediction.mask is not None:
            write_mask(self.out_dir / 'masks' / f'{name}{MASK_SUFFIX}', prediction.mask)
        if prediction.lesion_probability is not None:
            grey = np.round(prediction.lesion_probability * 255).astype(np.uint8)
            write_image(self.out_dir / 'probabilities' / f'{name}.png', grey)
        if self.overlays:
            picture = overlay(prediction, source)
            write_image(self.out_dir / 'overlays' / f'{name}.jpg', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if self._lines:
            self._lines.write(json_text(prediction.to_dict(self.contours)) + '\n')
            self._lines.flush()
        scores = prediction.probabilities or {}
        cells = [f'{scores[name]:.6f}' if name in scores else '' for name in self.classes]
        self._write_row([name, *cells, prediction.label or ''])

    def _write_row(self, cells: Sequence[str]) -> None:
        self._rows.write(csv_line(cells))
        self._rows.flush()


def overlay(prediction: LesionPrediction, source: ImageSource) -> np.ndarray:
    """The outline on the image, RGB with at most 1024 pixels on the longer side; below it a key and probabilities."""
    image, _ = source.read(OVERLAY_SIZE * min(prediction.size) / max(prediction.size))
    picture = draw_outlines(thumbnail(image, OVERLAY_SIZE), prediction.contours or [], prediction.size)
    if prediction.contours:
        picture = add_caption(picture, 'predicted outline', PREDICTED)
    if not prediction.probabilities:
        return picture
    by_score = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
    return add_caption(picture, '    '.join(f'{readable(name)} {score:.2f}' for name, score in by_score))


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a grey or BGR image in the format of the file's suffix."""
    write_whole(path, cv2.imencode(path.suffix, image)[1].tobytes())
