"""ROC and precision-recall curves."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import Estimate
from mmskin.evaluation.submission_scores import SENSITIVITIES
from mmskin.report.figures.style import BLUE, COLUMN, GREEN, ORANGE, PAGE, PURPLE, line_style, spoken, unit_square
from mmskin.visualization.contour_sheet import readable


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
