"""The confusion matrix."""

import math

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from mmskin.evaluation.per_image import PerImageTable
from mmskin.report.figures.style import COLUMN
from mmskin.visualization.contour_sheet import readable


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
