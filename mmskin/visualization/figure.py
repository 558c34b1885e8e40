"""Writing matplotlib's figures."""

from itertools import chain
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

__all__ = ['save_figure']


def save_figure(figure: Figure, path: str | Path, **options: Any) -> None:
    """Write a figure, making its folder, with words as they are: a name such as ``a$^$b`` is no formula.

    The labels of logarithmic axes are formulas of matplotlib's own, and stay so.

    Args:
        figure: what is written.
        path: its suffix sets the format.
        options: of ``Figure.savefig``.
    """
    axes = chain.from_iterable((axes.xaxis, axes.yaxis) for axes in figure.axes)
    formulas = {label for axis in axes if axis.get_scale() != 'linear' for label in axis.get_ticklabels(which='both')}
    for text in figure.findobj(Text):
        if text not in formulas:
            text.set_parse_math(False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, **options)
