"""How the figures look: at the width of a paper's column, in print and for the colour-blind."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from mmskin.evaluation.statistics import Estimate
from mmskin.visualization.figure import save_figure

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
