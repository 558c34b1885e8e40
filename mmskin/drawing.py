"""Pictures: outlines, captions and thumbnails, how figures are written, and the cases of a test."""

import logging
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib import colormaps, get_data_path
from PIL import Image, ImageColor, ImageDraw, ImageFont

from mmskin.errors import Mistake
from mmskin.files import readable, write_whole
from mmskin.readers.images import read_image

if TYPE_CHECKING:  # a prediction draws no figure, and their import takes half a second
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

TRUE, PREDICTED = '#eb1e14', '#1446ff'
FURTHER = ('#d68f00', '#008f5a', '#b0419e', '#007f99', '#7a5200', '#5c5c5c')  # outlines of further tasks
EDGE = '#ffffff'  # on both sides of a line, so that it stands out from a dark lesion
MAP_COLORS = colormaps['viridis']
THUMBNAIL = 224  # pixels on the longer side
MAX_OUTLINES = 16  # an untrained network scatters thousands of specks; what is kept of a mask has to stay small
FONT = str(Path(get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf')  # Pillow's own lacks Greek and Cyrillic
FAMILIES = ('cjk', 'gothic', 'hei', 'song', 'ming', 'pingfang', 'hiragino', 'malgun', 'unicode', 'fallback')  # likely
NO_LETTERS = ('emoji', 'last resort')  # of fonts: pictures in colour, and boxes for any letter
SMALLEST = 3  # pixels of a caption's letters
PRECISION = 4  # binary digits of a fraction of a pixel, in OpenCV's drawing
SIZE = 320  # pixels on the longer side of a case's picture


def thumbnail(image: np.ndarray, longest: int = THUMBNAIL) -> np.ndarray:
    """``image`` (H, W[, 3]) shrunk by area averaging to at most ``longest`` pixels on its longer side."""
    scale = min(1.0, longest / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return image if scale == 1 else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def read_thumbnail(path: str | None, longest: int = THUMBNAIL) -> np.ndarray:
    """The image at ``path``, upright RGB, shrunk to ``longest`` pixels at most; light grey if there is no path."""
    if path is None:
        return np.full((longest, longest, 3), 224, np.uint8)
    return thumbnail(read_image(Path(path))[0], longest)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines of the largest parts of a mask (H, W), holes included.

    Returns:
        Closed polygons (num_points, 2), x and y as fractions of width and height, float16.
    """
    small = thumbnail(mask.astype(np.uint8))
    contours, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(contours, key=cv2.contourArea, reverse=True)[:MAX_OUTLINES]
    simple = [cv2.approxPolyDP(contour, 0.5, True)[:, 0] for contour in largest]
    return [((np.vstack([line, line[:1]]) + 0.5) / small.shape[::-1]).astype(np.float16) for line in simple]


def plot_outlines(axis: 'Axes', lines: Sequence[np.ndarray], **style: Any) -> None:
    """Draw polygons over an image whose axes run from 0 to 1."""
    for line in lines:
        axis.plot(*line.astype(float).T, linewidth=1.4, **style)


def draw_outlines(
    image: np.ndarray,
    polygons: Sequence[Sequence[tuple[int, int]] | np.ndarray],
    size: Sequence[int],
    color: str = PREDICTED,
    width: int | None = None,
) -> np.ndarray:
    """A copy of ``image`` (h, w, 3), RGB, with closed polygons (x, y) in pixels of an image of ``size`` (H, W).

    The line lies in a light one; its ``width`` is by default a 400th of the image, at least 2 pixels.
    """
    drawn = image.copy()
    scale = np.array(image.shape[1::-1]) / np.array(size[::-1])
    lines = [np.rint(((np.array(line) + 0.5) * scale - 0.5) * 2**PRECISION).astype(np.int32) for line in polygons]
    width = width or max(2, round(max(image.shape) / 400))
    for shade, thickness in ((EDGE, width + 2), (color, width)):
        cv2.polylines(drawn, lines, True, ImageColor.getrgb(shade), thickness, cv2.LINE_AA, PRECISION)
    return drawn


def overlay(
    image: np.ndarray, values: np.ndarray, scale: 'Normalize | None' = None, strength: float = 0.5
) -> np.ndarray:
    """A map of numbers (h, w), enlarged and coloured, over an image (H, W, 3) of uint8.

    Args:
        image: RGB.
        values: Of a gate or an activation.
        scale: Which values the ends of the colour map stand for; 0 and 1 by default.
        strength: How much of the result is the map, from 0 to 1.
    """
    size = image.shape[1], image.shape[0]
    large = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    colors = MAP_COLORS(scale(large) if scale else large)[..., :3] * 255
    return (image * (1 - strength) + colors * strength).round().astype(np.uint8)


@cache
def drawable(text: str) -> tuple[str, str, str]:
    r"""``text`` as it can be drawn, and the file and the name of the font that has all of its letters.

    That is the packaged font, or else one of the system's, such as for Chinese. Without one, letters that the packaged
    font lacks are escaped, as ``\u75c5``: they would all be the same box.
    """
    lacking = {letter for letter in text if letter.isprintable()} - _letters(FONT)
    if not lacking:
        return text, FONT, 'DejaVu Sans'
    from matplotlib.font_manager import fontManager

    logging.getLogger('matplotlib.font_manager').setLevel(logging.ERROR)  # it warns of weights that a font lacks
    fonts = {font.fname: font.name for font in reversed(fontManager.ttflist)}  # of a collection its first font
    fonts = {path: name for path, name in fonts.items() if not any(part in name.lower() for part in NO_LETTERS)}
    for path in sorted(fonts, key=lambda path: (not any(part in path.lower() for part in FAMILIES), path)):
        if {letter for letter in text if letter.isprintable()} <= _letters(path):
            return text, path, fonts[path]
    escaped = (letter.encode('ascii', 'backslashreplace').decode() if letter in lacking else letter for letter in text)
    return ''.join(escaped), FONT, 'DejaVu Sans'


@cache
def _letters(font: str) -> frozenset[str]:
    """The letters that a file of a font has; none of one that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(font).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def add_caption(image: np.ndarray, text: str, color: str = 'black') -> np.ndarray:
    """``image`` (h, w, 3) with ``text`` on white below it, as large as fits; a narrow one gets white sides."""
    text, path, _ = drawable(text)
    lacking = max(0, round(ImageFont.truetype(path, SMALLEST).getlength(text) / 0.96) - image.shape[1])
    image = np.pad(image, ((0, 0), (lacking // 2, lacking - lacking // 2), (0, 0)), constant_values=255)
    width = image.shape[1]
    size = max(8, width / 28)
    size *= min(1.0, 0.96 * width / ImageFont.truetype(path, size).getlength(text))
    font = ImageFont.truetype(path, size)
    strip = Image.new('RGB', (width, round(1.8 * size)), 'white')
    ImageDraw.Draw(strip).text((width / 2, strip.height / 2), text, fill=color, font=font, anchor='mm')
    return np.vstack([image, np.asarray(strip)])


def figure_format(path: str | Path) -> str:
    """The format that a picture's suffix names."""
    from matplotlib.backend_bases import FigureCanvasBase

    formats = FigureCanvasBase.filetypes.keys() - {'pgf'}  # which takes a LaTeX
    if (suffix := Path(path).suffix[1:].lower()) not in formats:
        raise Mistake(f'{path}: .{suffix} is not a format for pictures; there are {", ".join(sorted(formats))}')
    return suffix


def save_figure(figure: 'Figure', path: str | Path, **options: Any) -> None:
    """Write a figure as ``write_whole`` does, with words as they are: a name such as ``a$^$b`` is no formula.

    The path's suffix sets the format. The labels of logarithmic axes are formulas of matplotlib's own, and stay so.
    Letters that matplotlib's font lacks are drawn as ``drawable`` says.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    kind = figure_format(path)
    axes = [*chain.from_iterable((axes.xaxis, axes.yaxis) for axes in figure.axes)]
    formulas = {label for axis in axes if axis.get_scale() != 'linear' for label in axis.get_ticklabels(which='both')}
    for text in figure.findobj(Text):
        if text not in formulas:
            text.set_parse_math(False)
            words, font, name = drawable(text.get_text())
            text.set_text(words)
            if font != FONT:
                text.set_fontfamily([*text.get_fontfamily(), name])
    for axis in axes:
        formatter = axis.get_major_formatter()
        if isinstance(formatter, FixedFormatter | FuncFormatter):  # they give labels again when the figure is drawn
            axis.set_major_formatter(
                FuncFormatter(lambda value, place, plain=formatter: drawable(plain(value, place))[0])
            )
    content = BytesIO()  # on a full disk matplotlib would stumble over a PDF of its own, and not say why
    figure.savefig(content, format=kind, **options)
    write_whole(path, content.getvalue())


@dataclass(eq=False)
class Case:
    """What pictures need to know of one tested image: about 700 bytes, however large the image is.

    Attributes:
        img_path: File to draw, or None for a blank background.
        gt_class: Name of the true class, '' if unlabelled.
        pred_class: Name of the predicted class, '' without a prediction.
        scores: Probability by class name.
        jaccard: JA at the mask's own size, a mean where there are several; nan without both masks.
        true_outlines: As ``outlines`` gives them.
        pred_outlines: Likewise, of the predicted mask.
        notes: What further tasks say, and the truth, by task.
    """

    image_id: str
    img_path: str | None = None
    gt_class: str = ''
    pred_class: str = ''
    scores: dict[str, float] = field(default_factory=dict)
    jaccard: float = math.nan
    true_outlines: list[np.ndarray] = field(default_factory=list)
    pred_outlines: list[np.ndarray] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        """Whether the class is known and another one was predicted."""
        return bool(self.gt_class and self.pred_class) and self.gt_class != self.pred_class


def draw_sheet(rows: Mapping[str, Sequence[Case]], column_width: float = 2.3) -> 'Figure':
    """Draw rows of cases under a legend, in the manner of the paper's figure 2.

    The true contour is red and dashed, the predicted one blue and solid. A tick on green or a cross on red says
    whether the predicted class is the true one.

    Args:
        rows: Cases by the row's name; none is empty.
        column_width: Of one image and its margins, in inches.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = max(map(len, rows.values()))
    size = column_width * columns, (column_width + 0.7) * len(rows) + 0.6
    figure = Figure(figsize=size, layout='constrained', dpi=110)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, cases) in zip(grid, rows.items(), strict=True):
        for axis, case in zip(axes, cases, strict=False):
            draw_panel(axis, case)
        for axis in axes[len(cases) :]:
            axis.axis('off')
        axes[0].set_ylabel(name, fontsize=11, fontweight='bold')
    true = Line2D([], [], color=TRUE, linestyle='--', label='true contour')
    predicted = Line2D([], [], color=PREDICTED, linestyle='-', label='predicted contour')
    figure.legend(handles=[true, predicted], loc='outside upper center', ncols=2, frameon=False)
    return figure


def draw_panel(axis: 'Axes', case: Case) -> None:
    """One image with both contours, its prediction above, and id, JA and probabilities below.

    Green stands for a right class, red for a wrong one, grey where there is nothing to judge.
    """
    image = read_thumbnail(case.img_path)
    axis.imshow(image, extent=(0, 1, 1, 0), aspect=image.shape[0] / image.shape[1])
    plot_outlines(axis, case.true_outlines, color=TRUE, linestyle='--')
    plot_outlines(axis, case.pred_outlines, color=PREDICTED, linestyle='-')
    axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    if not (case.gt_class and case.pred_class):
        color, mark = 'grey', ''
    elif case.wrong:
        color, mark = 'crimson', '\u2717'
    else:
        color, mark = 'green', '\u2713'
    axis.spines[:].set(color=color, linewidth=2)
    if case.pred_class:
        score = case.scores.get(case.pred_class, math.nan)
        axis.set_title(f'{readable(case.pred_class)} {score:.2f} {mark}', fontsize=9, color=color)
    jaccard = '' if math.isnan(case.jaccard) else f'  JA {case.jaccard:.2f}'
    scores = ', '.join(f'{readable(name)} {score:.2f}' for name, score in case.scores.items())
    notes = [f'{readable(task)}: {readable(text)}' for task, text in case.notes.items()]
    lines = [textwrap.fill(line, 34) for line in (scores, *notes) if line]
    axis.set_xlabel('\n'.join([f'{case.image_id}{jaccard}', *lines]), fontsize=7)


def read_case_image(path: str | None) -> np.ndarray:
    """The image at ``path`` for ``case_picture`` (h, w, 3), RGB, its longer side ``SIZE``; grey without a path."""
    image = read_thumbnail(path, SIZE)
    scale = SIZE / max(image.shape)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) if scale > 1 else image


def case_picture(image: np.ndarray, case: Case) -> np.ndarray:
    """``image``, from ``read_case_image``, with both outlines, and below it ``captions``."""
    height, width = image.shape[:2]
    picture = image
    for lines, color in ((case.true_outlines, TRUE), (case.pred_outlines, PREDICTED)):
        points = [line.astype(float) * (width, height) - 0.5 for line in lines]
        picture = draw_outlines(picture, points, (height, width), color, width=2)
    for text, color in captions(case):
        picture = add_caption(picture, text, color)
    return picture


def captions(case: Case) -> list[tuple[str, str]]:
    """Name and JA, prediction, and truth, as far as known, in the colour of what each is about, and further tasks.

    There are always three lines, and one for each further task, so that a run's pictures are of one size.
    """
    jaccard = '' if np.isnan(case.jaccard) else f'   Jaccard {case.jaccard:.2f}'
    score = f' {case.scores[case.pred_class]:.2f}' if case.pred_class in case.scores else ''
    wrong = ' (wrong)' if case.wrong else ''
    predicted = f'{readable(case.pred_class) or "outline"}{score}{wrong}'
    true = readable(case.gt_class) or ('outline' if case.true_outlines else 'not known')
    return [
        (case.image_id + jaccard, 'black'),
        (f'predicted: {predicted}', PREDICTED),
        (f'true: {true}', TRUE),
        *((f'{readable(task)}: {readable(text)}', 'black') for task, text in case.notes.items()),
    ]
