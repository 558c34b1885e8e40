"""An outline drawn on its image, with a line of text below."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmskin.visualization.colors import EDGE, PREDICTED

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
