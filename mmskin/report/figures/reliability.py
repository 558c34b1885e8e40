"""The reliability diagram."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmskin.report.calibration import NUM_BINS, Bins, expected_calibration_error
from mmskin.report.figures.style import BLUE, COLUMN, ORANGE, PAGE

EDGES = np.linspace(0, 1, NUM_BINS + 1)


def reliability_figure(panels: Mapping[str, Bins]) -> Figure:
    """Accuracy against confidence above, how many images have it below; a column for each of ``panels``, by title."""
    width = COLUMN if len(panels) == 1 else PAGE
    figure = Figure(figsize=(width, COLUMN * 1.2))
    grid = figure.subplots(2, len(panels), sharex=True, sharey='row', height_ratios=(3, 1), squeeze=False)
    for (top, bottom), (title, bins) in zip(grid.T, panels.items(), strict=True):
        draw_panel(top, bottom, bins)
        top.set_title(f'{title}ECE {expected_calibration_error(bins):.3f} ({NUM_BINS} bins of equal width)')
    grid[0, 0].set_ylabel('accuracy')
    grid[1, 0].set_ylabel('images')
    grid[0, 0].legend(loc='upper left')
    return figure


def draw_panel(top: Axes, bottom: Axes, bins: Bins) -> None:
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
