"""Cases of a test: in a file, on a sheet in the manner of the paper's figure 2, and each as a picture."""

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmskin.errors import Mistake
from mmskin.files import write_text
from mmskin.visualization.overlay import PREDICTED, TRUE, add_caption, draw_outlines, read_thumbnail, save_figure


@dataclass(eq=False)
class Case:
    """What the sheet needs to know of one image: about 700 bytes, whatever the image's size.

    Attributes:
        img_path: file to draw, or None for a blank background.
        gt_class: name of the true class, '' if unlabelled.
        pred_class: name of the predicted class, '' without a prediction.
        scores: probability by class name.
        jaccard: JA at the mask's own size, nan without both masks.
        true_outlines: see ``mmskin.visualization.overlay.outlines``.
        pred_outlines: likewise, of the predicted mask.
    """

    image_id: str
    img_path: str | None = None
    gt_class: str = ''
    pred_class: str = ''
    scores: dict[str, float] = field(default_factory=dict)
    jaccard: float = math.nan
    true_outlines: list[np.ndarray] = field(default_factory=list)
    pred_outlines: list[np.ndarray] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether the class is known and another one was predicted."""
        return bool(self.gt_class and self.pred_class) and self.gt_class != self.pred_class


def choose_cases(cases: Sequence[Case], count: int) -> list[Case]:
    """``count`` cases, the same ones in whatever order they come: by image id, then failures at the end.

    A quarter is kept for wrongly classified images and a quarter for the lowest JA, as rows 2 and 3 of the figure are.
    """
    by_id = sorted(cases, key=lambda case: case.image_id)
    share = max(1, count // 4)
    poor = sorted((case for case in by_id if case.jaccard < 1), key=lambda case: case.jaccard)[:share]
    wrong = [case for case in by_id if case.wrong and case not in poor][:share]
    rest = sorted((case for case in by_id if case not in poor + wrong), key=lambda case: case.wrong)
    return [*rest[: max(0, count - len(wrong) - len(poor))], *wrong, *poor][:count]


def contour_sheet(cases: Sequence[Case], out_file: str | Path, num_images: int = 18) -> None:
    """Draw a sheet with a row for each true class, chosen by ``choose_cases``.

    The true contour is red and dashed, the predicted one blue and solid. A tick on green or a cross on red says
    whether the predicted class is the true one.

    Args:
        cases: all images of a test; at least one.
        out_file: the picture; the suffix sets its format.
        num_images: how many to draw, shared out evenly over the classes.

    Raises:
        MissingFile: if a drawn image cannot be read.
    """
    classes = sorted({case.gt_class for case in cases})
    count = math.ceil(num_images / len(classes))
    rows = [choose_cases([case for case in cases if case.gt_class == name], count) for name in classes]
    figure = draw_sheet({readable(name) or 'no label': row for name, row in zip(classes, rows, strict=True)})
    save_figure(figure, out_file)


def draw_sheet(rows: Mapping[str, Sequence[Case]], column_width: float = 2.3) -> Figure:
    """Draw rows of cases under a legend.

    Args:
        rows: cases by the row's name; none is empty.
        column_width: of one image and its margins, in inches.

    Raises:
        MissingFile: if an image cannot be read.
    """
    columns = max(map(len, rows.values()))
    size = column_width * columns, (column_width + 0.7) * len(rows) + 0.6
    figure = Figure(figsize=size, layout='constrained', dpi=110)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes, (name, cases) in zip(grid, rows.items(), strict=True):
        draw_row(axes, cases)
        axes[0].set_ylabel(name, fontsize=11, fontweight='bold')
    add_legend(figure)
    return figure


def draw_row(axes: Sequence[Axes], cases: Sequence[Case]) -> None:
    """Draw cases side by side and leave the rest of the row blank."""
    for axis, case in zip(axes, cases, strict=False):
        draw_panel(axis, case)
    for axis in axes[len(cases) :]:
        axis.axis('off')


def draw_panel(axis: Axes, case: Case) -> None:
    """One image with both contours, its prediction above, and JA and the probabilities below."""
    image = read_thumbnail(case.img_path)
    axis.imshow(image, extent=(0, 1, 1, 0), aspect=image.shape[0] / image.shape[1])
    plot_outlines(axis, case.true_outlines, color=TRUE, linestyle='--')
    plot_outlines(axis, case.pred_outlines, color=PREDICTED, linestyle='-')
    axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    color = verdict_color(case)
    axis.set_title(verdict(case), fontsize=9, color=color)
    axis.spines[:].set(color=color, linewidth=2)
    axis.set_xlabel(caption(case), fontsize=7)


def plot_outlines(axis: Axes, lines: Sequence[np.ndarray], **style: Any) -> None:
    """Draw polygons over an image whose axes run from 0 to 1."""
    for line in lines:
        axis.plot(*line.astype(float).T, linewidth=1.4, **style)


def verdict_color(case: Case) -> str:
    """Green for a right class, red for a wrong one, grey where there is nothing to judge."""
    if not (case.gt_class and case.pred_class):
        return 'grey'
    return 'crimson' if case.wrong else 'green'


def verdict(case: Case) -> str:
    """The predicted class with its probability and a tick or a cross."""
    if not case.pred_class:
        return ''
    mark = '' if not case.gt_class else '\u2717' if case.wrong else '\u2713'
    return f'{readable(case.pred_class)} {case.scores.get(case.pred_class, math.nan):.2f} {mark}'


def caption(case: Case) -> str:
    """Image id, JA, and the probability of each class."""
    jaccard = '' if math.isnan(case.jaccard) else f'  JA {case.jaccard:.2f}'
    scores = ', '.join(f'{readable(name)} {score:.2f}' for name, score in case.scores.items())
    return f'{case.image_id}{jaccard}\n{textwrap.fill(scores, 34)}'


def readable(name: str) -> str:
    """A class name as written in text."""
    return name.replace('_', ' ')


def add_legend(figure: Figure) -> None:
    """Say what the two contours are, above the rows."""
    true = Line2D([], [], color=TRUE, linestyle='--', label='true contour')
    predicted = Line2D([], [], color=PREDICTED, linestyle='-', label='predicted contour')
    figure.legend(handles=[true, predicted], loc='outside upper center', ncols=2, frameon=False)


OUTLINES = ('true_outlines', 'pred_outlines')


def write_cases(path: str | Path, cases: Iterable[Case]) -> None:
    """Write ``cases`` as JSON, sorted by image id: about 1.5 kB each.

    Args:
        path: the file.
        cases: of one test.
    """
    images = [as_json(case) for case in sorted(cases, key=lambda case: case.image_id)]
    text = json.dumps(images, separators=(',', ':'), allow_nan=False)
    write_text(path, text + '\n')


def read_cases(path: str | Path) -> list[Case]:
    """The cases in a file of ``write_cases``.

    Raises:
        ValueError: if the file is none of its kind.
    """
    try:
        return [from_json(image) for image in json.loads(Path(path).read_text(encoding='utf-8'))]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise Mistake(f'{path} is no file of cases ({error!r}); test again to have it written anew.') from error


def as_json(case: Case) -> dict[str, Any]:
    """A case in plain objects: null for an unknown JA, four decimals for an outline."""
    lines = {key: [np.round(line.astype(float), 4).tolist() for line in getattr(case, key)] for key in OUTLINES}
    return {**asdict(case), 'jaccard': None if math.isnan(case.jaccard) else case.jaccard, **lines}


def from_json(image: dict[str, Any]) -> Case:
    """The case that ``as_json`` wrote."""
    lines = {key: [np.array(line, np.float16) for line in image[key]] for key in OUTLINES}
    return Case(**{**image, 'jaccard': math.nan if image['jaccard'] is None else image['jaccard'], **lines})


SIZE = 320  # pixels on the longer side


def read_image(path: str | None) -> np.ndarray:
    """The image at ``path`` for ``case_picture`` (h, w, 3), RGB, its longer side ``SIZE``; grey without a path."""
    image = read_thumbnail(path, SIZE)
    scale = SIZE / max(image.shape)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) if scale > 1 else image


def case_picture(image: np.ndarray, case: Case) -> np.ndarray:
    """``image`` with the true and the predicted outline, and below it name, JA, prediction and truth, as far as known.

    Args:
        image: from ``read_image``.
        case: what to draw on it.
    """
    height, width = image.shape[:2]
    picture = image
    for lines, color in ((case.true_outlines, TRUE), (case.pred_outlines, PREDICTED)):
        points = [line.astype(float) * (width, height) - 0.5 for line in lines]
        picture = draw_outlines(picture, points, (height, width), color, width=2)
    for text, color in captions(case):
        picture = add_caption(picture, text, color)
    return picture


def captions(case: Case) -> list[tuple[str, str]]:
    """Lines of text, in the colour of what they tell of; always three, so that a run's pictures are of one size."""
    jaccard = '' if np.isnan(case.jaccard) else f'   Jaccard {case.jaccard:.2f}'
    return [(case.image_id + jaccard, 'black'), (predicted(case), PREDICTED), (true(case), TRUE)]


def predicted(case: Case) -> str:
    """The predicted class with its probability, and whether it is wrong."""
    score = f' {case.scores[case.pred_class]:.2f}' if case.pred_class in case.scores else ''
    wrong = ' (wrong)' if case.wrong else ''
    return f'predicted: {readable(case.pred_class) or "outline"}{score}{wrong}'


def true(case: Case) -> str:
    """The true class, or that it is not known."""
    known = 'outline' if case.true_outlines else 'not known'
    return f'true: {readable(case.gt_class) or known}'
