"""The histogram of JA."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmskin.report.figures.style import BLUE, COLUMN, ORANGE

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
