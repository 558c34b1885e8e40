"""The answer for some images, as HTML with all its pictures inside: nothing of it has to lie on the disk."""

import base64
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.colors import Normalize, to_hex

from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.drawing import FURTHER, MAP_COLORS, overlay, readable, thumbnail
from mmskin.explain.explanation import Explanation, answer, explain
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import LesionPrediction
from mmskin.masks import Polygon, contours_of

__all__ = ['Refused', 'answer_html', 'look_at']

SIZE = 900  # pixels on the longer side of what is shown
LEGEND = ', '.join(to_hex(color) for color in MAP_COLORS(np.linspace(0, 1, 9)))


class Refused(NamedTuple):
    """A file without an answer; the reason names it."""

    reason: str


class ColorMap(NamedTuple):
    """A map to lay over the image.

    Attributes:
        title: What it shows.
        source: A data URI, of the shown image's size.
        low, high: What the ends of its colours stand for.
    """

    title: str
    source: str
    low: str
    high: str


def look_at(inferencer: LesionInferencer, source: ImageSource) -> dict[str, Any]:
    """All that the page shows of one image, with pictures as data URIs.

    Raises:
        Mistake: if the image cannot be read; the message names it.
    """
    explanation = explain(inferencer, source)
    prediction = explanation.prediction
    masks = [(f'{task}_{name}', mask) for task, one in prediction.others.items() for name, mask in one.masks.items()]
    further = [(name, mask, FURTHER[index % len(FURTHER)]) for index, (name, mask) in enumerate(masks)]
    image = thumbnail(source.read(SIZE * min(prediction.size) / max(prediction.size))[0], SIZE)
    return {
        'name': prediction.image_id,
        'prediction': prediction,
        'probabilities': by_score(prediction),
        'image': data_uri(image, '.jpg'),
        'outline': polygons(prediction.contours or ()),
        'further': [(points, color) for _, mask, color in further for points in polygons(contours_of(mask))],
        'further_masks': [(name, color, data_uri(np.uint8(255) * mask, '.png')) for name, mask, color in further],
        'mask': None if prediction.mask is None else data_uri(np.uint8(255) * prediction.mask, '.png'),
        'mask_name': f'{prediction.image_id}{MASK_SUFFIX}',
        'maps': list(color_maps(explanation, image)),
        'without': [
            (name, answer(other) if name in explanation.moving else 'moves nothing')
            for name, other in explanation.without.items()
        ],
    }


def answer_html(classes: Sequence[str], results: Sequence[dict[str, Any] | Refused]) -> str:
    """What the page shows below the place for images: refusals, a table of several images, and each image."""
    images = [one for one in results if not isinstance(one, Refused)]
    return template().render(
        classes=classes,
        refused=[one.reason for one in results if isinstance(one, Refused)],
        images=images,
        legend=LEGEND,
        readable=readable,
    )


def by_score(prediction: LesionPrediction) -> list[tuple[str, float]]:
    """Classes and their probabilities, the likeliest first."""
    return sorted((prediction.probabilities or {}).items(), key=lambda pair: -pair[1])


def polygons(contours: Sequence[Polygon]) -> list[str]:
    """Polygons as SVG has them, in pixels of the original image."""
    return [' '.join(f'{x},{y}' for x, y in polygon) for polygon in contours]


def color_maps(explanation: Explanation, image: np.ndarray) -> Iterator[ColorMap]:
    """The evidence for the diagnosis, and where gates open."""
    if explanation.activation is not None:
        title = f'evidence for {readable(explanation.prediction.label or "")} (Grad-CAM)'
        yield color_map(title, explanation.activation, image, Normalize(0, 1), ('little', 'much'))
    for name, rates in explanation.gates.items():
        if name in explanation.without and name not in explanation.moving:
            continue  # a map of what changes nothing would look as if it did
        scale = Normalize(float(rates.min()), float(rates.max()))
        yield color_map(f'gate {name}', rates, image, scale, (f'{rates.min():.2f}', f'{rates.max():.2f}'))


def color_map(title: str, values: np.ndarray, image: np.ndarray, scale: Normalize, ends: tuple[str, str]) -> ColorMap:
    """Values (h, w) in colours, as large as the image."""
    return ColorMap(title, data_uri(overlay(image, values, scale, strength=1), '.jpg'), *ends)


def data_uri(image: np.ndarray, suffix: str) -> str:
    """A grey or RGB image as a picture inside the page."""
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    return f'data:image/{"jpeg" if suffix == ".jpg" else "png"};base64,{base64.b64encode(data).decode()}'


@cache
def template() -> Template:
    """The HTML; names of files are escaped in it."""
    environment = Environment(
        loader=PackageLoader('mmskin', 'web'), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template('answer.html')
