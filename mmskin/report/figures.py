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

from mmskin.drawing import Case, draw_sheet, save_figure
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import Estimate
from mmskin.evaluation.submission import SENSITIVITIES
from mmskin.files import readable

COLUMN, PAGE = 3.4, 7.0  # inches: one column of a paper, and both
BLUE, ORANGE, GREEN, PURPLE = '#0072B2', '#D55E00', '#009E73', '#CC79A7'  # https://jfly.uni-koeln.de/color/
COLORS = (ORANGE, BLUE, GREEN, PURPLE, '#E69F00', '#56B4E9', '#000000')
LINES = ('-', '--', '-.', ':')  # told apart in grey print, too
NUM_BINS = 15
THRESHOLD = 0.65  # the challenge of 2018 counted lower JA as 0: https://challenge.isic-archive.com/landing/2018/45/
NUM_COLUMNS, COLUMN_WIDTH = 4, 1.95  # of the sheet of cases, inches
UNIT_SQUARE: Any = {'xlim': (-0.02, 1.02), 'ylim': (-0.02, 1.02), 'aspect': 'equal'}
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


def confusion_figure(tested: PerImageTable) -> Figure:
    """Counts, and below each its share of the row, which colours the cell."""
    counts, shares = confusion(tested)
    figure = Figure(figsize=(COLUMN, COLUMN * 0.86))
    axis = figure.subplots()
    picture = axis.imshow(np.nan_to_num(shares), cmap='Blues', vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        color = 'white' if share > 0.55 else 'black'
        percent = '–' if math.isnan(share) else f'{share:.0%}'
        axis.text(column, row, f'{counts[row, column]}\n{percent}', ha='center', va='center', color=color)
    names = [readable(name).replace(' ', '\n') for name in tested.classes]
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel='predicted class', ylabel='true class')
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(picture, ax=axis, label='share of the true class', shrink=0.8)
    return figure


def confusion(tested: PerImageTable) -> tuple[np.ndarray, np.ndarray]:
    """Counts (K, K), true classes in rows, and each row's shares: nan for a class without images."""
    labels, predicted = tested.labels[tested.judged], tested.predicted[tested.judged]
    indices = range(len(tested.classes))
    counts = confusion_matrix(labels, predicted, labels=indices)
    totals = counts.sum(axis=1, keepdims=True)
    return counts, counts / np.where(totals > 0, totals, np.nan)


def curves_figure(tested: PerImageTable, area: str, areas: Mapping[str, Estimate]) -> Figure:
    """Each class against the rest, with its area: of ``area`` 'AUC' the ROC curves, of 'AP' precision and recall.

    The latter has each class's share of the images as a thin line.
    """
    figure = Figure(figsize=(COLUMN, COLUMN * 1.18))
    axis = figure.subplots()
    if area == 'AUC':
        axis.plot([0, 1], [0, 1], color='grey', linewidth=0.7)
    for index, (name, (value, low, high, _)) in enumerate(areas.items()):
        positive, scores = tested.one_against_rest(name)
        style = {'color': COLORS[index % len(COLORS)], 'linestyle': LINES[index % len(LINES)]}
        ends = '' if math.isnan(low) else f' [{low:.2f}, {high:.2f}]'
        label = f'{readable(name)}: {area} {"undefined" if math.isnan(value) else f"{value:.2f}{ends}"}'
        if area == 'AUC':
            draw_roc(axis, positive, scores, label=label, **style)
        else:
            draw_precision_recall(axis, positive, scores, label=label, **style)
            if positive.any():
                axis.axhline(positive.mean(), color=style['color'], linewidth=0.5)
    figure.legend(loc='outside lower center')
    return figure


def operating_points_figure(tested: PerImageTable) -> Figure:
    """The challenge's two binary tasks: ROC above, precision-recall below, and where the challenge read them."""
    figure = Figure(figsize=(PAGE, PAGE * 1.02))
    grid = figure.subplots(2, len(CATEGORIES))
    for (top, bottom), name in zip(grid.T, CATEGORIES, strict=True):
        positive, scores = tested.one_against_rest(name)
        top.plot([0, 1], [0, 1], color='grey', linewidth=0.7)
        draw_roc(top, positive, scores, color='black')
        draw_precision_recall(bottom, positive, scores, color='black')
        top.set_title(f'{readable(name)} against the rest', fontweight='bold')
        if np.unique(positive).size < 2:
            top.text(0.5, 0.25, 'undefined without\nimages on both sides', ha='center', va='center')
            continue
        # as the official scorer: the first thresholds with three sensitivities, and one half
        _, rates, thresholds = roc_curve(positive, scores)
        called = {f'sensitivity {at:.0%}': scores >= thresholds[np.argmax(rates >= at)] for at in SENSITIVITIES}
        called['threshold 0.5'] = scores > 0.5
        for label, marker, color in zip(called, 'os^D', (ORANGE, BLUE, GREEN, PURPLE), strict=True):
            chosen = called[label]
            sensitivity, specificity = float(chosen[positive].mean()), float(1 - chosen[~positive].mean())
            precision = positive[chosen].mean() if chosen.any() else np.nan
            style: dict[str, Any] = {'marker': marker, 'color': color, 'linestyle': ''}
            style |= {'markersize': 5, 'markeredgecolor': 'white'}
            top.plot(1 - specificity, sensitivity, **style, label=f'{label}: {specificity:.2f}')
            bottom.plot(sensitivity, precision, **style, label=f'{label}: {precision:.2f}')
        top.legend(title='specificity at', title_fontsize=7, loc='lower right', alignment='left')
        bottom.legend(title='precision at', title_fontsize=7, loc='lower left', alignment='left')
    return figure


def draw_roc(axis: Axes, positive: np.ndarray, scores: np.ndarray, **style: Any) -> None:
    """False and true positive rates; no curve where all images are on one side."""
    rates: Any = roc_curve(positive, scores)[:2] if np.unique(positive).size == 2 else ([], [])
    axis.plot(*rates, **style)
    axis.set(xlabel='1 − specificity', ylabel='sensitivity', **UNIT_SQUARE)
    axis.grid(True)


def draw_precision_recall(axis: Axes, positive: np.ndarray, scores: np.ndarray, **style: Any) -> None:
    """Precision by recall; a step after each point is AP's staircase. No curve where nothing is positive."""
    precision, recall, _ = precision_recall_curve(positive, scores) if positive.any() else ([], [], [])
    axis.plot(recall, precision, **style, drawstyle='steps-post')
    axis.set(xlabel='recall (sensitivity)', ylabel='precision', **UNIT_SQUARE)
    axis.grid(True)


class Bins(NamedTuple):
    """Images by the probability of their predicted class: (NUM_BINS,) each, nan for the means of an empty bin."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: the mean over images of the gap between a bin's confidence and accuracy.

        Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599.
        """
        return float(np.nansum(self.counts * np.abs(self.accuracy - self.confidence)) / self.counts.sum())


def bin_confidences(scores: np.ndarray, labels: np.ndarray) -> Bins:
    """Sort images with scores (N, K) and true labels (N,) into ``NUM_BINS`` bins of equal width, closed above."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(index, minlength=NUM_BINS)
    filled = np.where(counts > 0, counts, np.nan)
    sums = [np.bincount(index, weights, NUM_BINS) for weights in (confidence, right.astype(float))]
    return Bins(counts, *(total / filled for total in sums))


def reliability_figure(panels: Mapping[str, Bins]) -> Figure:
    """Accuracy against confidence above, how many images have it below; a column for each of ``panels``, by title."""
    width = COLUMN if len(panels) == 1 else PAGE
    figure = Figure(figsize=(width, COLUMN * 1.2))
    grid = figure.subplots(2, len(panels), sharex=True, sharey='row', height_ratios=(3, 1), squeeze=False)
    left, width = np.linspace(0, 1, NUM_BINS + 1)[:-1], 1 / NUM_BINS
    for (top, bottom), (title, bins) in zip(grid.T, panels.items(), strict=True):
        top.bar(left, np.nan_to_num(bins.accuracy), width, align='edge', color=BLUE, alpha=0.45, edgecolor=BLUE)
        top.plot([0, 1], [0, 1], color='grey', linewidth=0.8, label='perfect calibration')
        filled = bins.counts > 0
        top.plot(bins.confidence[filled], bins.accuracy[filled], 'o', color=ORANGE, markersize=3, label='mean of a bin')
        top.set(xlim=(0, 1), ylim=(0, 1.02))
        name = f'{title}: ' if len(panels) > 1 else ''
        top.set_title(f'{name}ECE {bins.calibration_error:.3f} ({NUM_BINS} bins of equal width)')
        bottom.bar(left, bins.counts, width, align='edge', color='#999999', edgecolor='white', linewidth=0.4)
        bottom.set_xlabel('confidence: probability of the predicted class')
        for axis in (top, bottom):
            axis.grid(axis='y')
            axis.set_axisbelow(True)
    grid[0, 0].set_ylabel('accuracy')
    grid[1, 0].set_ylabel('images')
    grid[0, 0].legend(loc='upper left')
    return figure


def jaccard_figure(values: np.ndarray) -> Figure:
    """How many images have which JA; ``values`` (N,), nan where undefined."""
    values = values[~np.isnan(values)]
    below, edges = values < THRESHOLD, np.linspace(0, 1, 21)
    labels = []
    for side, chosen in (('below', below), ('at or above', ~below)):
        share = f' ({chosen.mean():.0%})' if chosen.size else ''
        labels.append(f'{side} {THRESHOLD}: {chosen.sum()} of {chosen.size} images{share}')
    figure = Figure(figsize=(COLUMN, COLUMN * 0.75))
    axis = figure.subplots()
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


def groups_figure(groups: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """A panel for each metric, a row for each group; the dashed line is the first group, all images.

    Args:
        groups: Estimates by group and metric; all groups have the same metrics.
    """
    metrics = list(next(iter(groups.values())))
    figure = Figure(figsize=(COLUMN if len(metrics) == 1 else PAGE, 0.7 + 0.24 * len(groups)))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        rows = [group[metric] for group in groups.values()]
        for row, estimate in enumerate(rows):
            panel.plot([estimate.low, estimate.high], [row, row], color=BLUE, linewidth=1.6)
            panel.plot(estimate.value, row, 'o', color=BLUE, markersize=4)
        if not math.isnan(rows[0].value):
            panel.axvline(rows[0].value, color='grey', linestyle='--', linewidth=0.7)
        known = [value for estimate in rows for value in estimate[:3] if not math.isnan(value)]
        panel.set_xlim(max(0, np.floor(min(known, default=0) * 10) / 10 - 0.02), 1.02)
        panel.set_xlabel(metric)
        panel.grid(axis='x')
        panel.tick_params(axis='y', length=0)
    panels[0].set_yticks(range(len(groups)), list(groups))
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    return figure


def cases_figure(rows: Mapping[str, Sequence[Case]]) -> Figure:
    """Rows of contours; an image whose file is gone is left blank."""
    shown = {
        name: [
            case if case.img_path and Path(case.img_path).is_file() else replace(case, img_path=None) for case in cases
        ]
        for name, cases in rows.items()
    }
    with mpl.rc_context({'axes.spines.top': True, 'axes.spines.right': True}):
        return draw_sheet(shown, COLUMN_WIDTH)


def choose_rows(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The best, middle and worst cases by JA, each once; empty if none can be judged.

    Without two masks it is the probability of the true class that counts.
    """

    def merit(case: Case) -> float:
        return case.scores.get(case.gt_class, math.nan) if math.isnan(case.jaccard) else case.jaccard

    ranked = sorted((case for case in cases if not math.isnan(merit(case))), key=lambda case: case.image_id)
    ranked.sort(key=merit, reverse=True)
    if len(ranked) < 3:
        return {'all': ranked} if ranked else {}
    count = min(NUM_COLUMNS, len(ranked) // 3)
    middle = (len(ranked) - count) // 2
    return {'best': ranked[:count], 'median': ranked[middle : middle + count], 'worst': ranked[-count:][::-1]}
