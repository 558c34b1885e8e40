"""A picture of pairs of images, to judge by eye whether they show the same."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mmskin.drawing import read_thumbnail, save_figure


def pair_sheet(pairs: Sequence[tuple[str, str, str]], out_file: str | Path, columns: int = 3) -> None:
    """Draw pairs side by side.

    Args:
        pairs: title, and the files of two images.
        out_file: the picture; the suffix sets its format.
        columns: how many pairs in a row.
    """
    rows = max(1, math.ceil(len(pairs) / columns))
    figure = Figure(figsize=(4.2 * columns, 2.3 * rows), layout='constrained', dpi=80)
    axes = figure.subplots(rows, 2 * columns, squeeze=False)
    for axis in axes.flat:
        axis.axis('off')
    for (title, *files), left, right in zip(pairs, axes.flat[::2], axes.flat[1::2], strict=False):
        left.set_title(title, fontsize=8, loc='left')
        for axis, file in zip((left, right), files, strict=True):
            axis.imshow(read_thumbnail(file))
    save_figure(figure, out_file)
