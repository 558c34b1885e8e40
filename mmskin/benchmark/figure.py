"""The figure of a benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmskin.visualization.figure import save_figure

__all__ = ['draw']


def draw(report: dict[str, Any], path: str | Path) -> None:
    """Draw a panel for each metric: seeds as dots, means with their intervals over images, the paper's numbers."""
    names = [name for name, method in report['methods'].items() if method['seeds']]
    figure = Figure(figsize=(2.2 + 2.6 * len(report['metrics']), 1.6 + 0.4 * len(names)), layout='constrained')
    panels = figure.subplots(1, len(report['metrics']), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, report['metrics'], strict=True):
        for row, name in enumerate(names):
            draw_method(
                panel, row, report['methods'][name]['metrics'][metric], report['methods'][name]['paper'].get(metric)
            )
        panel.set_title(metric)
        panel.grid(axis='x', alpha=0.3)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(
        f'dots: seeds; bar: {report["level"]:.0%} interval over images of their mean; ×: the paper', fontsize=9
    )
    save_figure(figure, path, dpi=120)


def draw_method(panel: Axes, row: int, found: dict[str, Any] | None, paper: float | None) -> None:
    """One row of a panel."""
    if found is not None:
        if found['images'] is not None:
            panel.plot(found['images'], [row, row], color='tab:blue', linewidth=2)
        panel.plot(found['values'], np.full(len(found['values']), row), '.', color='tab:blue', alpha=0.5)
        panel.plot(found['mean'], row, 'o', color='tab:blue')
    if paper is not None:
        panel.plot(paper, row, 'x', color='tab:red')
