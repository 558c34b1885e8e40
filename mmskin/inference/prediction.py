"""What is predicted for one image, as plain objects."""

import io
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmskin.drawing import FURTHER, PREDICTED, add_caption, draw_outlines, readable, thumbnail
from mmskin.errors import Mistake
from mmskin.inference.image_sources import Content, ImageSource
from mmskin.masks import LesionMeasurements, Polygon, borders_of, contours_of, measure_lesion, simplified
from mmskin.models.tasks.task import Answer

__all__ = ['FailedImage', 'LesionPrediction']

OVERLAY_SIZE = 1024  # pixels on the longer side
UNLIKE = 'unlike the training images'
NO_LESION = 'no lesion found'


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
            raise Mistake(f'{self.image_id} came from memory; give it, too: prediction.overlay(image)')
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
            **({'others': {name: told(answer) for name, answer in self.others.items()}} if self.others else {}),
            **({'contours': lines and [simplified(line) for line in lines], 'holes': self.holes} if contours else {}),
        }


def told(answer: Answer) -> dict[str, Any]:
    """What a task says in words and numbers, and of each mask the share of the image."""
    label = {} if answer.label is None else {'label': answer.label}
    shares = {name: float(mask.mean()) for name, mask in answer.masks.items()}
    return {
        **label,
        **({'numbers': answer.numbers} if answer.numbers else {}),
        **({'shares': shares} if shares else {}),
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
