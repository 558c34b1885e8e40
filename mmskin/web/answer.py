"""The answer for some images, as HTML with all its pictures inside: nothing of it has to lie on the disk."""

import base64
import io
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from matplotlib.colors import Normalize, to_hex

from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.drawing import FURTHER, MAP_COLORS, overlay, thumbnail
from mmskin.explain.explanation import Explanation, answer, explain
from mmskin.files import csv_line, readable
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import LesionPrediction, cells_of, files_of
from mmskin.masks import Polygon, contours_of

SIZE = 900  # pixels on the longer side of what is shown
KINDS = {'.csv': 'text/csv', '.jpg': 'image/jpeg', '.png': 'image/png', '.zip': 'application/zip'}
LEGEND = ', '.join(to_hex(color) for color in MAP_COLORS(np.linspace(0, 1, 9)))


def look_at(inferencer: LesionInferencer, source: ImageSource) -> dict[str, Any]:
    """All that the page shows of one image, with pictures as data URIs."""
    explanation = explain(inferencer, source)
    prediction = explanation.prediction
    masks = [
        (f'{task}_{name}', mask) for task, other in prediction.others.items() for name, mask in other.masks.items()
    ]
    further = [(name, mask, FURTHER[index % len(FURTHER)]) for index, (name, mask) in enumerate(masks)]
    image = thumbnail(source.read(SIZE * min(prediction.size) / max(prediction.size))[0], SIZE)
    written = dict(files_of(prediction, source))
    flags = [prediction.note] if prediction.note else []
    if (lesion := prediction.measurements) and lesion.touches_frame:
        flags.append('the lesion reaches the edge of the image: part of it may be missing')
    if lesion and lesion.num_components > 1:
        flags.append(f'the outline is in {lesion.num_components} pieces')
    downloads = []
    for path, data in written.items():
        folder, _, name = path.partition('/')
        title = {'masks': 'Mask (PNG)', 'overlays': 'Overlay (JPEG)'}.get(folder, path)
        if folder == 'masks' and not name.endswith(MASK_SUFFIX):
            title = f'Mask of {readable(Path(name).stem.removeprefix(f"{prediction.image_id}_"))} (PNG)'
        downloads.append((title, path.rpartition('/')[2], file_uri(path, data)))
    return {
        'name': source.file_name or prediction.image_id,
        'prediction': prediction,
        'flags': flags,
        'measured': measured(prediction),
        'cells': cells_of(prediction, inferencer.classes),
        'files': written,
        'downloads': downloads,
        'probabilities': sorted((prediction.probabilities or {}).items(), key=lambda pair: -pair[1]),
        'image': data_uri(image),
        'outline': polygons(prediction.contours or ()),
        'further': [(points, color) for _, mask, color in further for points in polygons(contours_of(mask))],
        'further_masks': [(name, color) for name, _, color in further],
        'maps': list(color_maps(explanation, image)),
        'without': [
            (name, explanation.in_words(name), answer(other) if name in explanation.moving else 'the same answer')
            for name, other in explanation.without.items()
        ],
    }


def answer_html(classes: Sequence[str], results: Sequence[dict[str, Any] | str]) -> str:
    """What the page shows below the place for images: why some have no answer, a table of several, and each image."""
    images = [image for image in results if not isinstance(image, str)]
    columns = list(dict.fromkeys(name for image in images for name in image['cells']))
    rows = [columns, *([image['cells'].get(name, '') for name in columns] for image in images)]
    written = {'predictions.csv': ''.join(map(csv_line, rows)).encode()}
    for image in images:
        written |= image['files']
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w') as target:
        for name, data in written.items():
            target.writestr(name, data)
    return template('answer.html').render(
        classes=classes,
        refused=[reason for reason in results if isinstance(reason, str)],
        images=images,
        table=file_uri('.csv', written['predictions.csv']),
        archive=file_uri('.zip', archive.getvalue()),
        legend=LEGEND,
        readable=readable,
    )


def measured(prediction: LesionPrediction) -> list[tuple[str, str]]:
    """Size and shape of the lesion in words, with what the numbers say."""
    lesion = prediction.measurements
    if lesion is None:
        return []
    area, length, around = ('' for _ in range(3))
    if lesion.area_mm2 is not None:
        area = f', {lesion.area_mm2:,.1f} mm²'
        length, around = f', {lesion.max_feret_diameter_mm:,.1f} mm', f', {lesion.perimeter_mm:,.1f} mm'
    return [
        ('area', f'{lesion.area:,} pixels, {100 * lesion.area_fraction:.1f}\N{NO-BREAK SPACE}% of the image{area}'),
        ('largest diameter', f'{lesion.max_feret_diameter:,.1f} pixels{length}'),
        ('perimeter', f'{lesion.perimeter:,.1f} pixels{around}'),
        ('asymmetry (0: symmetric)', f'{lesion.asymmetry:.2f}'),
        ('compactness (1: a disc)', f'{lesion.compactness:.2f}'),
        ('irregularity (0: no dents)', f'{lesion.irregularity:.2f}'),
    ]


def samples_html() -> str:
    """The painted lesions that come with mmskin, each a button."""
    folder = files('mmskin').joinpath('samples')
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith('.jpg'))
    return template('samples.html').render(
        samples=[(name, file_uri(name, folder.joinpath(name).read_bytes())) for name in names]
    )


def polygons(contours: Sequence[Polygon]) -> list[str]:
    """Polygons as SVG has them, in pixels of the original image."""
    return [' '.join(f'{x},{y}' for x, y in polygon) for polygon in contours]


def color_maps(explanation: Explanation, image: np.ndarray) -> Iterator[dict[str, str]]:
    """The evidence for the diagnosis, and where gates open, as large as the image, and what their colours stand for."""
    shown: list[tuple[str, np.ndarray, Normalize, str, str]] = []
    if explanation.activation is not None:
        title = f'evidence for {readable(explanation.prediction.label or "")} (Grad-CAM)'
        shown.append((title, explanation.activation, Normalize(0, 1), 'little', 'much'))
    for name, rates in explanation.gates.items():
        if name in explanation.without and name not in explanation.moving:
            continue  # a map of what changes nothing would look as if it did
        low, high = float(rates.min()), float(rates.max())
        shown.append((f'gate {name}', rates, Normalize(low, high), f'{low:.2f}', f'{high:.2f}'))
    for title, values, scale, lowest, highest in shown:
        source = data_uri(overlay(image, values, scale, strength=1))
        yield {'title': title, 'source': source, 'low': lowest, 'high': highest}


def data_uri(image: np.ndarray) -> str:
    """An RGB image as a picture inside the page."""
    return file_uri('.jpg', cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())


def file_uri(name: str, data: bytes) -> str:
    """A file inside the page, of the kind that its suffix says."""
    return f'data:{KINDS[name[-4:]]};base64,{base64.b64encode(data).decode()}'


@cache
def template(name: str) -> Template:
    """A file of HTML; names of images are escaped in it."""
    environment = Environment(
        loader=PackageLoader('mmskin', 'web'), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(name)
