"""Outlines and captions on images, thumbnails, and how figures are written."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmskin.errors import MissingFile

__all__ = ['save_figure']

TRUE, PREDICTED = '#eb1e14', '#1446ff'
EDGE = '#ffffff'  # on both sides of a line, so that it stands out from a dark lesion


THUMBNAIL = 224  # pixels on the longer side
MAX_OUTLINES = 16  # an untrained network scatters thousands of specks; what is kept of a mask has to stay small


def thumbnail(image: np.ndarray, longest: int = THUMBNAIL) -> np.ndarray:
    """``image`` (H, W[, 3]) shrunk by area averaging to at most ``longest`` pixels on its longer side."""
    scale = min(1.0, longest / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return image if scale == 1 else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines of the largest parts of a mask (H, W), holes included.

    Returns:
        closed polygons (num_points, 2), x and y as fractions of width and height, float16.
    """
    small = thumbnail(mask.astype(np.uint8))
    found, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(found, key=cv2.contourArea, reverse=True)[:MAX_OUTLINES]
    simple = [cv2.approxPolyDP(contour, 0.5, True)[:, 0] for contour in largest]
    return [((np.vstack([line, line[:1]]) + 0.5) / small.shape[::-1]).astype(np.float16) for line in simple]


def read_thumbnail(path: str | None, longest: int = THUMBNAIL) -> np.ndarray:
    """The image at ``path``, upright RGB, shrunk to ``longest`` pixels at most; light grey if there is no path.

    Raises:
        FileNotFoundError: if the file is missing or no image.
    """
    if path is None:
        return np.full((longest, longest, 3), 224, np.uint8)
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise MissingFile(f'{path} is missing or not an image; pictures are drawn from the files of images.')
    return cv2.cvtColor(thumbnail(image, longest), cv2.COLOR_BGR2RGB)


SMALLEST = 4  # pixels of a caption's letters
PRECISION = 4  # binary digits of a fraction of a pixel, in OpenCV's drawing


def draw_outlines(
    image: np.ndarray,
    polygons: Sequence[Sequence[tuple[int, int]] | np.ndarray],
    size: Sequence[int],
    color: str = PREDICTED,
    width: int | None = None,
) -> np.ndarray:
    """A copy of ``image`` (h, w, 3), RGB, with closed polygons (x, y) of an image of ``size`` (H, W).

    Args:
        image: what to draw on.
        polygons: in pixels of the other image.
        size: of the other image.
        color: of the line, which lies in a light one.
        width: of the line in pixels, by default a 400th of the image and at least 2.
    """
    drawn = image.copy()
    scale = np.array(image.shape[1::-1]) / np.array(size[::-1])
    lines = [np.rint(((np.array(line) + 0.5) * scale - 0.5) * 2**PRECISION).astype(np.int32) for line in polygons]
    width = width or max(2, round(max(image.shape) / 400))
    for shade, thickness in ((EDGE, width + 2), (color, width)):
        cv2.polylines(drawn, lines, True, ImageColor.getrgb(shade), thickness, cv2.LINE_AA, PRECISION)
    return drawn


def add_caption(image: np.ndarray, text: str, color: str = 'black') -> np.ndarray:
    """``image`` (h, w, 3) with ``text`` on white below it, as large as fits; a narrow one gets white sides."""
    lacking = max(0, round(ImageFont.load_default(SMALLEST).getlength(text) / 0.96) - image.shape[1])
    image = np.pad(image, ((0, 0), (lacking // 2, lacking - lacking // 2), (0, 0)), constant_values=255)
    width = image.shape[1]
    size = max(8, width / 28)
    size *= min(1.0, 0.96 * width / ImageFont.load_default(size).getlength(text))
    font = ImageFont.load_default(size)
    strip = Image.new('RGB', (width, round(1.8 * size)), 'white')
    ImageDraw.Draw(strip).text((width / 2, strip.height / 2), text, fill=color, font=font, anchor='mm')
    return np.vstack([image, np.asarray(strip)])


def save_figure(figure: Figure, path: str | Path, **options: Any) -> None:
    """Write a figure, making its folder, with words as they are: a name such as ``a$^$b`` is no formula.

    The labels of logarithmic axes are formulas of matplotlib's own, and stay so.

    Args:
        figure: what is written.
        path: its suffix sets the format.
        options: of ``Figure.savefig``.
    """
    axes = chain.from_iterable((axes.xaxis, axes.yaxis) for axes in figure.axes)
    formulas = {label for axis in axes if axis.get_scale() != 'linear' for label in axis.get_ticklabels(which='both')}
    for text in figure.findobj(Text):
        if text not in formulas:
            text.set_parse_math(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **options)
