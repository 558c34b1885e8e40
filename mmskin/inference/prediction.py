"""What is predicted for one image, as plain objects, and the folder of results that ``mmskin predict`` writes."""

import csv
import errno
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image

from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.drawing import FURTHER, PREDICTED, add_caption, draw_outlines, thumbnail
from mmskin.errors import Mistake
from mmskin.files import (
    check_name,
    clear_unfinished,
    csv_line,
    hold,
    is_held,
    json_text,
    named,
    plain_cell,
    readable,
    refuse_device,
    whole_file,
    write_whole,
)
from mmskin.inference.image_sources import Content, ImageSource
from mmskin.masks import (
    LesionMeasurements,
    Polygon,
    borders_of,
    coco_segmentation,
    contours_of,
    measure_lesion,
    simplified,
)
from mmskin.models.tasks.task import Answer

OVERLAY_SIZE = 1024  # pixels on the longer side
UNLIKE = 'unlike the training images'
NO_LESION = 'no lesion found'
MEASURED = tuple(name for name in LesionMeasurements.__dataclass_fields__ if name not in ('bounding_box', 'centroid'))
OF_IMAGES = (  # folders, and what follows an image's id in them
    ('masks', MASK_SUFFIX),
    ('probabilities', '.png'),
    ('overlays', '.jpg'),
    ('explanations', '.png'),
    ('explanations', '.json'),
)


@dataclass(eq=False)
class LesionPrediction:
    """A network's answer for one image; what it was not trained for is None.

    Attributes:
        image_id: The file's name without its suffix, or ``image_<number>`` for what came from memory.
        path: The file, or None.
        size: (height, width) of the upright image, in pixels.
        label: The likeliest class, of the network's only task that names one, or of the one that learns ``gt_label``.
        probabilities: By class, adding up to 1. How far they can be trusted depends on the network's calibration.
        mask: True on the lesion, (height, width); of the only task that outlines, or of the one that learns
            ``gt_sem_seg``.
        lesion_probability: float32 (height, width), if it was asked for; interpolated from the network's resolution.
        inputs: What the network was given with the image, by the input's name.
        novelty: How unlike the training images it is: above 1 it is one of those that the network should not be asked
            about. None of a model without a ``novelty.safetensors``.
        gates: Mean rate by block and route, such as ``{'layer3.22': {'cls2seg': 0.4}}``, over channels, positions and
            views: for a gate, how much of what one branch tells the other gets through; the operator's ``quantity``
            says what it is for others. Empty without gates.
        others: What the further tasks say, by the task's name.
        mm_per_pixel: The image's scale, if it is known: measurements are in millimetres then, too.
    """

    image_id: str
    path: str | None
    size: tuple[int, int]
    label: str | None = None
    probabilities: dict[str, float] | None = None
    mask: np.ndarray | None = field(default=None, repr=False)
    lesion_probability: np.ndarray | None = field(default=None, repr=False)
    gates: dict[str, dict[str, float]] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    novelty: float | None = None
    others: dict[str, Answer] = field(default_factory=dict)
    mm_per_pixel: float | None = None

    @cached_property
    def note(self) -> str:
        """What stands in the way of taking the answer for one: '', or why there may be no lesion to name."""
        if self.novelty is not None and self.novelty > 1:
            return UNLIKE
        return NO_LESION if self.mask is not None and not self.mask.any() else ''

    @cached_property
    def contours(self) -> list[Polygon] | None:
        """Outlines of the mask as lists of (x, y); see ``contours_of``."""
        return None if self._borders is None else [polygon for polygon, _ in self._borders]

    @property
    def holes(self) -> list[bool] | None:
        """For each of the contours, whether it goes round a hole."""
        return None if self._borders is None else [is_hole for _, is_hole in self._borders]

    @cached_property
    def _borders(self) -> list[tuple[Polygon, bool]] | None:
        return None if self.mask is None else borders_of(self.mask)

    @cached_property
    def measurements(self) -> LesionMeasurements | None:
        """The lesion's size and shape; None also where no pixel is lesion."""
        return None if self.mask is None else measure_lesion(self.mask, self.mm_per_pixel)

    @property
    def summary(self) -> str:
        """The answer in a few words, such as ``nevus 0.93  lesion 6.2 % of the image``, and its note."""
        words = []
        if self.label is not None and self.probabilities:
            words.append(f'{readable(self.label)} {self.probabilities[self.label]:.2f}')
        if self.mask is not None and self.mask.any():
            words.append(f'lesion {100 * self.mask.mean():.1f} % of the image')
            if self.mm_per_pixel and self.measurements:
                words[-1] += f', {self.measurements.max_feret_diameter_mm:.1f} mm long'
        for task, answer in self.others.items():
            named = readable(answer.label) if answer.label else 'none' if answer.label is not None else ''
            score = f' {answer.numbers[answer.label]:.2f}' if answer.label in answer.numbers else ''
            numbers = (
                '' if named else ', '.join(f'{readable(name)} {value:.3g}' for name, value in answer.numbers.items())
            )
            outlines = [('' if name == task else f'{readable(name)} ', mask) for name, mask in answer.masks.items()]
            shares = ', '.join(f'{name}{100 * mask.mean():.1f} %' for name, mask in outlines)
            words.append(f'{readable(task)} {named}{score}{numbers}{shares}')
        return '  '.join([*words, *([f'({self.note})'] if self.note else [])])

    def overlay(self, image: Content | ImageSource | None = None) -> Image.Image:
        """The outlines on the image, at most 1024 pixels on the longer side; below it a key and what is said.

        Args:
            image: What was predicted, if it came from memory; otherwise its file is read again.

        Raises:
            Mistake: if the image came from memory and is not given, or cannot be read.
        """
        content = Path(self.path) if image is None and self.path else image
        if content is None:
            raise Mistake(f'{self.image_id} was not read from a file; give its image: prediction.overlay(image)')
        source = content if isinstance(content, ImageSource) else ImageSource(self.image_id, content)
        pixels, _ = source.read(OVERLAY_SIZE * min(self.size) / max(self.size))
        picture = draw_outlines(thumbnail(pixels, OVERLAY_SIZE), self.contours or [], self.size)
        masks = [
            (f'{task} {name}', mask) for task, answer in self.others.items() for name, mask in answer.masks.items()
        ]
        named = [(readable(name), mask, FURTHER[index % len(FURTHER)]) for index, (name, mask) in enumerate(masks)]
        for _, mask, color in named:
            picture = draw_outlines(picture, contours_of(mask), self.size, color)
        if self.contours:
            picture = add_caption(picture, 'predicted outline', PREDICTED)
        for name, mask, color in named:
            if mask.any():
                picture = add_caption(picture, name, color)
        if self.probabilities:
            by_score = sorted(self.probabilities.items(), key=lambda pair: -pair[1])
            picture = add_caption(picture, '    '.join(f'{readable(name)} {score:.2f}' for name, score in by_score))
        if self.note:
            picture = add_caption(picture, self.note)
        for task, answer in self.others.items():
            if answer.label is not None or answer.numbers:
                numbers = [f'{readable(name)} {number:.2f}' for name, number in answer.numbers.items()]
                picture = add_caption(picture, f'{readable(task)}: {", ".join(numbers)}')
        return Image.fromarray(picture)

    def show(self, image: Content | ImageSource | None = None) -> None:
        """Open the overlay in the system's image viewer; a notebook shows it without being asked."""
        self.overlay(image).show(self.image_id)

    def _repr_png_(self) -> bytes | None:
        """What a notebook shows: the overlay, if the image's file is there."""
        if self.path is None or not Path(self.path).is_file():
            return None
        buffer = io.BytesIO()
        self.overlay().save(buffer, 'PNG')
        return buffer.getvalue()

    def to_dict(self, contours: bool = True) -> dict[str, Any]:
        """What ``json.dumps`` takes: all but masks and maps of probability, which belong in images.

        Args:
            contours: With the polygons, which are most of it for a large image, to half a pixel; see ``simplified``.
        """
        height, width = self.size
        lines = self.contours if contours else None
        others = {}
        for task, answer in self.others.items():
            shares = {name: float(mask.mean()) for name, mask in answer.masks.items()}  # of the image
            entry = {'label': answer.label, 'numbers': answer.numbers, 'shares': shares}
            others[task] = {key: value for key, value in entry.items() if value not in (None, {})}
        return {
            'image_id': self.image_id,
            'path': self.path,
            'width': width,
            'height': height,
            **({'inputs': self.inputs} if self.inputs else {}),
            'label': self.label,
            'probabilities': self.probabilities,
            'note': self.note,
            'novelty': self.novelty,
            'measurements': asdict(self.measurements) if self.measurements else None,
            'gates': self.gates,
            **({'others': others} if others else {}),
            **({'contours': lines and [simplified(line) for line in lines], 'holes': self.holes} if contours else {}),
        }


@dataclass(eq=False)
class FailedImage:
    """An image that could not be read, or for which the network gave numbers that are not finite.

    Attributes:
        error: What is wrong; the message names the image.
    """

    image_id: str
    path: str | None
    error: Exception


class PredictionFiles(AbstractContextManager):
    """Writes what was predicted for an image as soon as it is handed over, so that an interruption loses nothing.

    ``predictions.csv`` has the columns ``image_id``, the classes, ``label``, ``note``, which says where there may be
    no lesion to name, and the measurements of the lesion, of a network that outlines one.
    ``masks/<image id>_segmentation.png`` is 8-bit, 0 and 255, and of the image's own size. Further tasks have columns
    ``<task>/<number>``, ``<task>/label`` and ``<task>/<outline>``, the share of the image that a mask covers, and masks
    ``<image id>_<task>.png`` or ``<image id>_<task>_<outline>.png``. An image's row begins before its other files and
    ends after them: results of an earlier prediction in the same folder are removed, also where it was killed.

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
        if is_held(self.table):
            raise Mistake(f'{out_dir}: another prediction works in this folder; wait for it, or name another folder')
        if self.table.is_file():
            self._remove_earlier()
        else:  # which is there before any picture: others' would be replaced
            for folder in dict.fromkeys(out_dir / name for name, _ in OF_IMAGES):
                if any(path.is_file() for path in folder.rglob('*')):
                    raise Mistake(
                        f'{folder}: has files that no prediction wrote, which could be replaced; name another folder'
                    )
        out_dir.mkdir(parents=True, exist_ok=True)
        clear_unfinished(out_dir)
        self.table.unlink(missing_ok=True)  # or it would be written through a link
        # the name of a file need not be text in UTF-8; the table is
        self._rows = self.table.open('w', newline='', encoding='utf-8', errors='backslashreplace')
        hold(self._rows)
        self._has_head = False

    def _remove_earlier(self) -> None:
        """Remove the files of the images that the table in the folder lists: they would pass for this run's."""
        try:
            with self.table.open(newline='', encoding='utf-8', errors='surrogateescape') as file:
                rows = filter(None, csv.reader(file))
                first, *others = next(rows, ['image_id'])
                if first != 'image_id':
                    raise Mistake(
                        f'{self.table}: is not a table of predictions, and would be lost; name another folder'
                    )
                for cells in rows:
                    with suppress(Mistake):  # none that we wrote
                        image_id = '/'.join(check_name(part, '') for part in plain_cell(cells[0]).split('/'))
                        self._remove(image_id, others)
        except csv.Error as error:
            raise Mistake(f'{self.table}: damaged ({error}); remove it, or name another folder') from error

    def _remove(self, image_id: str, columns: Sequence[str]) -> None:
        """Remove the files of an image, and what a killed process left of others in their folders."""
        names = [f'{folder}/{image_id}{suffix}' for folder, suffix in OF_IMAGES]
        for task, _, outline in (column.partition('/') for column in columns if '/' in column):
            names += [picture_name(folder, image_id, task, outline) for folder in ('masks', 'probabilities')]
        for path in (self.out_dir / name for name in names):
            clear_unfinished(path.parent)
            path.unlink(missing_ok=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._has_head:
            self._write(csv_line(['image_id', *self.classes, 'label', 'note', *MEASURED]))
        self._rows.close()

    def write(self, prediction: LesionPrediction, source: ImageSource, more: Callable[[], None] = lambda: None) -> None:
        """Write everything about one image, or nothing if that fails.

        Args:
            prediction: Its answer.
            source: Is read again for the overlay.
            more: Writes further files of it, of ``OF_IMAGES``.
        """
        cells = cells_of(prediction, self.classes)
        if not self._has_head:
            self._write(csv_line([*cells]))
            self._has_head = True
        start, row = self._rows.tell(), csv_line([*cells.values()])
        begun = csv_line([prediction.image_id]).rstrip('\n')
        self._write(begun)
        try:
            more()
            for name, content in files_of(prediction, source if self.overlays else None):
                write_whole(self.out_dir / name, content)
        except BaseException as error:
            self._rows.seek(start)
            self._rows.truncate()
            self._remove(prediction.image_id, [*cells])
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                raise Mistake(f'{source.name}: its name is too long for those of its results') from error
            raise
        self._write(row.removeprefix(begun))

    def _write(self, text: str) -> None:
        with named(self.table):
            self._rows.write(text)
            self._rows.flush()


class CocoFile:
    """Writes predictions as annotations of COCO: for each image with a lesion, its outline, box and class.

    The category is the predicted class, or ``lesion`` of a network that names none; ``score`` is its probability. An
    earlier file stays until the block ends, however it ends; until then what is gathered waits on the disk. It stays
    for good where an error came before the first image.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self.path = path
        self.categories = list(classes) or ['lesion']
        names = ('images', 'annotations')
        self._open = ExitStack()
        self.parts: dict[str, IO[str]] = {name: self._open.enter_context(TemporaryFile('w+')) for name in names}  # noqa: SIM115
        self.counts = dict.fromkeys(self.parts, 0)

    def __enter__(self) -> 'CocoFile':
        self._file = self._open.enter_context(whole_file(self.path))  # now, not in the end, it is said if that fails
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind and not self.counts['images']:
            self._open.__exit__(kind, error, trace)
            return
        with named(self.path), self._open:
            categories = [dict(id=number, name=name) for number, name in enumerate(self.categories, 1)]
            self._file.write(b'{')
            for name, part in self.parts.items():
                part.seek(0)
                self._file.write(f'"{name}": ['.encode())
                shutil.copyfileobj(part.buffer, self._file)  # type: ignore[attr-defined]
                self._file.write(b'], ')
            self._file.write(f'"categories": {json_text(categories)}}}\n'.encode())

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
