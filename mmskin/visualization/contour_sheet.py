"""A picture of test cases in the manner of the paper's figure 2: true and predicted contour, classes, probabilities."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmskin.visualization.colors import PREDICTED, TRUE
from mmskin.visualization.figure import save_figure
from mmskin.visualization.thumbnails import read_thumbnail


@dataclass(eq=False)
class Case:
    """What the sheet needs to know of one image: about 700 bytes, whatever the image's size.

    Attributes:
        img_path: file to draw, or None for a blank background.
        gt_class: name of the true class, '' if unlabelled.
        pred_class: name of the predicted class, '' without a prediction.
        scores: probability by class name.
        jaccard: JA at the mask's own size, nan without both masks.
        true_outlines: see ``mmskin.visualization.thumbnails.outlines``.
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
        FileNotFoundError: if a drawn image cannot be read.
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
        FileNotFoundError: if an image cannot be read.
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
        draw_case(axis, case)
    for axis in axes[len(cases) :]:
        axis.axis('off')


def draw_case(axis: Axes, case: Case) -> None:
    """One image with both contours, its prediction above, and JA and the probabilities below."""
    image = read_thumbnail(case.img_path)
    axis.imshow(image, extent=(0, 1, 1, 0), aspect=image.shape[0] / image.shape[1])
    draw_outlines(axis, case.true_outlines, color=TRUE, linestyle='--')
    draw_outlines(axis, case.pred_outlines, color=PREDICTED, linestyle='-')
    axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(1, 0))
    color = verdict_color(case)
    axis.set_title(verdict(case), fontsize=9, color=color)
    axis.spines[:].set(color=color, linewidth=2)
    axis.set_xlabel(caption(case), fontsize=7)


def draw_outlines(axis: Axes, lines: Sequence[np.ndarray], **style: Any) -> None:
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
