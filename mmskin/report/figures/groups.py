"""Results of groups of images."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmskin.evaluation.statistics import Estimate
from mmskin.report.figures.style import BLUE, COLUMN, PAGE


def groups_figure(groups: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """A panel for each metric, a row for each group; the dashed line is the first group, all images.

    Args:
        groups: estimates by group and metric; all groups have the same metrics.
    """
    metrics = list(next(iter(groups.values())))
    figure = Figure(figsize=(COLUMN if len(metrics) == 1 else PAGE, 0.7 + 0.24 * len(groups)))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        draw_panel(panel, [found[metric] for found in groups.values()])
        panel.set_xlabel(metric)
    panels[0].set_yticks(range(len(groups)), list(groups))
    panels[0].set_ylim(len(groups) - 0.5, -0.5)
    return figure


def draw_panel(panel: Axes, rows: list[Estimate]) -> None:
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
