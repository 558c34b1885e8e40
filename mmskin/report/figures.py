"""The figures of a report, at the width of a paper's column, in print and for the colour-blind."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from mmskin.drawing import Case, draw_sheet, readable, save_figure
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import Estimate
from mmskin.evaluation.submission_scores import SENSITIVITIES
from mmskin.report.calibration import NUM_BINS, Bins, expected_calibration_error

COLUMN, PAGE = 3.4, 7.0  # inches: one column of a paper, and both
BLUE, ORANGE, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#CC79A7'  # https://jfly.uni-koeln.de/color/
COLORS = (ORANGE, BLUE, GREEN, PURPLE, '#E69F00', '#56B4E9', '#000000')
LINES = ('-', '--', '-.', ':')  # told apart in grey print, too
STYLE: Any = {
    'font.family': 'DejaVu Sans',  # comes with matplotlib, so that figures are the same everywhere
    'font.size': 8,
    'axes.titlesize': 8,
    'axes.labelsize': 8,
    'xtick.labelsize': 7,
    'ytick.labelsize': 7,
    'legend.fontsize': 7,
    'legend.frameon': False,
    'legend.handlelength': 2.4,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.linewidth': 0.7,
    'lines.linewidth': 1.3,
    'grid.color': '#dddddd',
    'grid.linewidth': 0.5,
    'figure.constrained_layout.use': True,
    'savefig.facecolor': 'white',
    'pdf.fonttype': 42,  # TrueType, as publishers ask; matplotlib's default is Type 3
    'svg.fonttype': 'path',
    'svg.hashsalt': 'mmskin',  # the same figure is the same file
}


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write ``<name>.pdf`` and ``<name>.svg`` without dates."""
    save_figure(figure, folder / f'{name}.pdf', metadata={'CreationDate': None})
    figure.set_layout_engine('none')  # it is laid out, and to do it again takes as long as to draw
    save_figure(figure, folder / f'{name}.svg', metadata={'Date': None})


def line_style(index: int) -> dict[str, Any]:
    """The color and dashes of the curve number ``index``."""
    return {'color': COLORS[index % len(COLORS)], 'linestyle': LINES[index % len(LINES)]}


def spoken(estimate: Estimate, digits: int = 2) -> str:
    """An estimate as ``0.81 [0.75, 0.87]``, or 'undefined'."""
    if math.isnan(estimate.value):
        return 'undefined'
    if math.isnan(estimate.low):
        return f'{estimate.value:.{digits}f}'
    return f'{estimate.value:.{digits}f} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]'


def unit_square(axes: Sequence[Any], margin: float = 0.02) -> None:
    """Let both axes run from 0 to 1 at the same scale."""
    for axis in axes:
        axis.set(xlim=(-margin, 1 + margin), ylim=(-margin, 1 + margin), aspect='equal')
        axis.grid(True)


def confusion_figure(evaluation: PerImageTable) -> Figure:
    """Counts, and below each its share of the row, which colours the cell."""
    counts, shares = confusion(evaluation)
    figure = Figure(figsize=(COLUMN, COLUMN * 0.86))
    axis = figure.subplots()
    picture = axis.imshow(np.nan_to_num(shares), cmap='Blues', vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        color = 'white' if share > 0.55 else 'black'
        axis.text(column, row, cell_text(int(counts[row, column]), share), ha='center', va='center', color=color)
    names = [readable(name).replace(' ', '\n') for name in evaluation.classes]
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel='predicted class', ylabel='true class')
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(picture, ax=axis, label='share of the true class', shrink=0.8)
    return figure


def confusion(evaluation: PerImageTable) -> tuple[np.ndarray, np.ndarray]:
    """Counts (K, K), true classes in rows, and each row's shares: nan for a class without images."""
    labels, predicted = evaluation.labels[evaluation.judged], evaluation.predicted[evaluation.judged]
    indices = range(len(evaluation.classes))
    counts = confusion_matrix(labels, predicted, labels=indices)
    totals = counts.sum(axis=1, keepdims=True)
    return counts, counts / np.where(totals > 0, totals, np.nan)


def cell_text(count: int, share: float) -> str:
    """A count and its share."""
    return f'{count}\n–' if math.isnan(share) else f'{count}\n{share:.0%}'


class Point(NamedTuple):
    """A threshold's place on both curves."""

    name: str
    sensitivity: float
    specificity: float
    precision: float


def roc_figure(evaluation: PerImageTable, areas: Mapping[str, Estimate]) -> Figure:
    """Each class against the rest; ``areas`` by class."""
    figure = Figure(figsize=(COLUMN, COLUMN * 1.18))
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color='grey', linewidth=0.7)
    for index, name in enumerate(evaluation.classes):
        rates = roc(*evaluation.one_against_rest(name))
        axis.plot(*rates, **line_style(index), label=f'{readable(name)}: AUC {spoken(areas[name])}')
    axis.set(xlabel='1 − specificity', ylabel='sensitivity')
    unit_square([axis])
    figure.legend(loc='outside lower center')
    return figure


def precision_recall_figure(evaluation: PerImageTable, areas: Mapping[str, Estimate]) -> Figure:
    """Each class against the rest, with its share of the images as a thin line; ``areas`` by class."""
    figure = Figure(figsize=(COLUMN, COLUMN * 1.18))
    axis = figure.subplots()
    for index, name in enumerate(evaluation.classes):
        positive, scores = evaluation.one_against_rest(name)
        style = line_style(index)
        label = f'{readable(name)}: AP {spoken(areas[name])}'
        axis.plot(*precision_recall(positive, scores), **style, label=label, drawstyle='steps-post')
        if positive.any():
            axis.axhline(positive.mean(), color=style['color'], linewidth=0.5)
    axis.set(xlabel='recall (sensitivity)', ylabel='precision')
    unit_square([axis])
    figure.legend(loc='outside lower center')
    return figure


def operating_points_figure(evaluation: PerImageTable) -> Figure:
    """The challenge's two binary tasks: both curves, and where the challenge read them."""
    figure = Figure(figsize=(PAGE, PAGE * 1.02))
    grid = figure.subplots(2, len(CATEGORIES))
    for (top, bottom), name in zip(grid.T, CATEGORIES, strict=True):
        draw_task(top, bottom, *evaluation.one_against_rest(name))
        top.set_title(f'{readable(name)} against the rest', fontweight='bold')
    unit_square(grid.flat)
    return figure


def draw_task(top: Axes, bottom: Axes, positive: np.ndarray, scores: np.ndarray) -> None:
    """ROC above and precision-recall below, with their operating points."""
    top.plot([0, 1], [0, 1], color='grey', linewidth=0.7)
    top.plot(*roc(positive, scores), color='black')
    bottom.plot(*precision_recall(positive, scores), color='black', drawstyle='steps-post')
    top.set(xlabel='1 − specificity', ylabel='sensitivity')
    bottom.set(xlabel='recall (sensitivity)', ylabel='precision')
    if points := operating_points(positive, scores):
        mark(top, bottom, points)
    else:
        top.text(0.5, 0.25, 'undefined without\nimages on both sides', ha='center', va='center')


def mark(top: Axes, bottom: Axes, points: list[Point]) -> None:
    """Operating points on both curves, with what they read in legends."""
    styles = zip('os^D', (ORANGE, BLUE, GREEN, PURPLE), strict=True)
    for point, (marker, color) in zip(points, styles, strict=True):
        style: dict[str, Any] = {
            'marker': marker,
            'color': color,
            'linestyle': '',
            'markersize': 5,
            'markeredgecolor': 'white',
        }
        top.plot(1 - point.specificity, point.sensitivity, **style, label=f'{point.name}: {point.specificity:.2f}')
        bottom.plot(point.sensitivity, point.precision, **style, label=f'{point.name}: {point.precision:.2f}')
    top.legend(title='specificity at', title_fontsize=7, loc='lower right', alignment='left')
    bottom.legend(title='precision at', title_fontsize=7, loc='lower left', alignment='left')


def roc(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates; empty where all images are on one side."""
    if np.unique(positive).size < 2:
        return np.empty(0), np.empty(0)
    return roc_curve(positive, scores)[:2]


def precision_recall(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall, falling, and precision; a step after each point is AP's staircase. Empty where nothing is positive."""
    if not positive.any():
        return np.empty(0), np.empty(0)
    precision, recall, _ = precision_recall_curve(positive, scores)
    return recall, precision


def operating_points(positive: np.ndarray, scores: np.ndarray) -> list[Point]:
    """The official scorer's: the first thresholds with three sensitivities, and 0.5; none without both sides."""
    if np.unique(positive).size < 2:
        return []
    _, rates, thresholds = roc_curve(positive, scores)
    reached = {f'sensitivity {at:.0%}': scores >= thresholds[np.argmax(rates >= at)] for at in SENSITIVITIES}
    return [point(name, positive, called) for name, called in (*reached.items(), ('threshold 0.5', scores > 0.5))]


def point(name: str, positive: np.ndarray, called: np.ndarray) -> Point:
    """Where images are ``called`` positive (N,); precision is nan where none is."""
    precision = positive[called].mean() if called.any() else np.nan
    return Point(name, float(called[positive].mean()), float(1 - called[~positive].mean()), float(precision))


EDGES = np.linspace(0, 1, NUM_BINS + 1)


def reliability_figure(panels: Mapping[str, Bins]) -> Figure:
    """Accuracy against confidence above, how many images have it below; a column for each of ``panels``, by title."""
    width = COLUMN if len(panels) == 1 else PAGE
    figure = Figure(figsize=(width, COLUMN * 1.2))
    grid = figure.subplots(2, len(panels), sharex=True, sharey='row', height_ratios=(3, 1), squeeze=False)
    for (top, bottom), (title, bins) in zip(grid.T, panels.items(), strict=True):
        draw_reliability(top, bottom, bins)
        top.set_title(f'{title}ECE {expected_calibration_error(bins):.3f} ({NUM_BINS} bins of equal width)')
    grid[0, 0].set_ylabel('accuracy')
    grid[1, 0].set_ylabel('images')
    grid[0, 0].legend(loc='upper left')
    return figure


def draw_reliability(top: Axes, bottom: Axes, bins: Bins) -> None:
    """One set of probabilities."""
    filled = bins.counts > 0
    left, width = EDGES[:-1], 1 / NUM_BINS
    top.bar(left, np.nan_to_num(bins.accuracy), width, align='edge', color=BLUE, alpha=0.45, edgecolor=BLUE)
    top.plot([0, 1], [0, 1], color='grey', linewidth=0.8, label='perfect calibration')
    top.plot(bins.confidence[filled], bins.accuracy[filled], 'o', color=ORANGE, markersize=3, label='mean of a bin')
    top.set(xlim=(0, 1), ylim=(0, 1.02))
    bottom.bar(left, bins.counts, width, align='edge', color='#999999', edgecolor='white', linewidth=0.4)
    bottom.set_xlabel('confidence: probability of the predicted class')
    for axis in (top, bottom):
        axis.grid(axis='y')
        axis.set_axisbelow(True)


THRESHOLD = (
    0.65  # below it the challenge of 2018 counted an image as 0: https://challenge.isic-archive.com/landing/2018/45/
)


def jaccard_figure(values: np.ndarray) -> Figure:
    """How many images have which JA; ``values`` (N,), nan where undefined."""
    values = values[~np.isnan(values)]
    below, edges = values < THRESHOLD, np.linspace(0, 1, 21)
    figure = Figure(figsize=(COLUMN, COLUMN * 0.75))
    axis = figure.subplots()
    labels = [share_text('below', below), share_text('at or above', ~below)]
    axis.hist(
        [values[below], values[~below]],
        edges.tolist(),
        stacked=True,
        color=[ORANGE, BLUE],
        label=labels,
        edgecolor='white',
        linewidth=0.5,
    )
    axis.axvline(THRESHOLD, color='black', linestyle='--', linewidth=1)
    if values.size:
        axis.axvline(values.mean(), color='black', linewidth=1, label=f'mean {values.mean():.3f}')
    axis.set(xlim=(0, 1), xlabel='JA of an image', ylabel='images')
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc='outside upper center', ncols=1)
    return figure


def share_text(side: str, chosen: np.ndarray) -> str:
    """How many images are on one side of the threshold."""
    share = f' ({chosen.mean():.0%})' if chosen.size else ''
    return f'{side} {THRESHOLD}: {chosen.sum()} of {chosen.size} images{share}'


def groups_figure(groups: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """A panel for each metric, a row for each group; the dashed line is the first group, all images.

    Args:
        groups: estimates by group and metric; all groups have the same metrics.
    """
    metrics = list(next(iter(groups.values())))
    figure = Figure(figsize=(COLUMN if len(metrics) == 1 else PAGE, 0.7 + 0.24 * len(groups)))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        draw_group_panel(panel, [found[metric] for found in groups.values()])
        panel.set_xlabel(metric)
    panels[0].set_yticks(range(len(groups)), list(groups))
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    return figure


def draw_group_panel(panel: Axes, rows: list[Estimate]) -> None:
    """One metric of all groups."""
    for row, found in enumerate(rows):
        panel.plot([found.low, found.high], [row, row], color=BLUE, linewidth=1.6)
        panel.plot(found.value, row, 'o', color=BLUE, markersize=4)
    if not math.isnan(rows[0].value):
        panel.axvline(rows[0].value, color='grey', linestyle='--', linewidth=0.7)
    known = [value for found in rows for value in found[:3] if not math.isnan(value)]
    panel.set_xlim(max(0, np.floor(min(known, default=0) * 10) / 10 - 0.02), 1.02)
    panel.grid(axis='x')
    panel.tick_params(axis='y', length=0)


NUM_COLUMNS = 4
COLUMN_WIDTH = 1.95


def cases_figure(cases: Sequence[Case]) -> Figure:
    """Rows of contours, chosen by ``choose_rows``; an image whose file is gone is left blank."""
    rows = {name: [present(case) for case in chosen] for name, chosen in choose_rows(cases).items()}
    with mpl.rc_context({'axes.spines.top': True, 'axes.spines.right': True}):
        return draw_sheet(rows, COLUMN_WIDTH)


def choose_rows(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The best, middle and worst cases by ``merit``, each once; empty if none can be judged."""
    ranked = sorted((case for case in cases if not math.isnan(merit(case))), key=lambda case: case.image_id)
    ranked.sort(key=merit, reverse=True)
    if len(ranked) < 3:
        return {'all': ranked} if ranked else {}
    count = min(NUM_COLUMNS, len(ranked) // 3)
    middle = (len(ranked) - count) // 2
    return {'best': ranked[:count], 'median': ranked[middle : middle + count], 'worst': ranked[-count:][::-1]}


def merit(case: Case) -> float:
    """JA; without two masks the probability of the true class; nan without either."""
    return case.scores.get(case.gt_class, math.nan) if math.isnan(case.jaccard) else case.jaccard


def present(case: Case) -> Case:
    """The case, without its image if the file is gone."""
    return case if case.img_path and Path(case.img_path).is_file() else replace(case, img_path=None)
