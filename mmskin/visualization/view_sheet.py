"""A picture of images beside what a network gets to see of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmskin.drawing import TRUE, outlines, plot_outlines, save_figure

SIDE = 1.5  # inches of one view


@dataclass(eq=False)
class View:
    """One picture of a sample.

    Attributes:
        image: uint8 RGB (H, W, 3).
        mask: (H, W) of any size, not 0 on the lesion; None without one.
    """

    image: np.ndarray
    mask: np.ndarray | None


@dataclass(eq=False)
class Sample:
    """A sample's original and its views; ``label`` is '' without a diagnosis."""

    image_id: str
    label: str
    original: View
    views: list[View]


def view_sheet(samples: Sequence[Sample], out_file: str | Path, title: str, columns: int = 2) -> None:
    """Draw each original beside its views, with the mask's outline.

    Args:
        samples: at least one; all with the same number of views.
        out_file: the picture; the suffix sets its format.
        title: is written above.
        columns: how many samples in a row.
    """
    columns, width = min(columns, len(samples)), 1 + len(samples[0].views)
    rows = math.ceil(len(samples) / columns)
    size = SIDE * width * columns, (SIDE + 0.25) * rows + 0.5
    figure = Figure(figsize=size, layout='constrained', dpi=100)
    grid = figure.subplots(rows, width * columns, squeeze=False)
    for axis in grid.flat:
        axis.axis('off')
    for sample, axes in zip(samples, grid.reshape(-1, width).tolist(), strict=False):
        draw_sample(axes, sample)
    figure.suptitle(title, fontsize=9)
    save_figure(figure, out_file)


def draw_sample(axes: Sequence[Axes], sample: Sample) -> None:
    """The original, named, and its views right of it."""
    for axis, view in zip(axes, [sample.original, *sample.views], strict=True):
        height, width = view.image.shape[:2]
        axis.imshow(view.image, extent=(0, 1, 1, 0), aspect=height / width)
        if view.mask is not None:
            plot_outlines(axis, outlines(view.mask), color=TRUE)
        axis.set(xlim=(0, 1), ylim=(1, 0))
    for number, axis in enumerate(axes[1:]):
        axis.set_title(f'epoch {number}', fontsize=7, color='grey')
    name = '\n'.join([sample.image_id, sample.label.replace('_', ' ') or 'no diagnosis'])
    axes[0].set_title(name + ', no mask' * (sample.original.mask is None), fontsize=7, loc='left')
