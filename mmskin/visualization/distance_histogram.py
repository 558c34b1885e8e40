"""A picture of how far images are from a training set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmskin.drawing import save_figure


def distance_histogram(groups: Mapping[str, Sequence[float]], out_file: str | Path) -> None:
    """Draw how groups of images spread over mean cosine distance.

    Args:
        groups: distances by the group's name; an empty group is left out.
        out_file: the picture; the suffix sets its format.
    """
    filled = {name: np.asarray(values) for name, values in groups.items() if len(values)}
    everything = np.concatenate(list(filled.values()))
    bins = np.linspace(everything.min(), everything.max(), 60).tolist()
    figure = Figure(figsize=(7, 4), layout='constrained', dpi=110)
    axis = figure.subplots()
    for name, values in filled.items():
        label = f'{name}: {len(values)}, up to {values.max():.4f}'
        axis.hist(values, bins, histtype='stepfilled', alpha=0.4, label=label)
    axis.set(xlabel='mean cosine distance to all training images', ylabel='images', yscale='symlog')
    axis.legend(frameon=False)
    save_figure(figure, out_file)
