"""Words in figures are drawn as they were given."""

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmskin.visualization.overlay import save_figure


def draw(path, words):
    figure = Figure(figsize=(4, 3), layout='constrained')
    axes = figure.subplots()
    axes.plot([1, 10], [1, 10], label=words)
    axes.set(title=words, xlabel=words, ylabel=words)
    axes.set_yticks([1, 10], [words, words])
    axes.legend(title=words)
    figure.suptitle(words)
    save_figure(figure, path)
    return cv2.imread(str(path)).astype(int)


@pytest.mark.parametrize('words', ['a$^$b', '$x$', r'$\frac{$', 'a_b^c', '{', '%', '$'])
def test_no_word_is_a_formula(tmp_path, words):
    picture = draw(tmp_path / 'new' / 'picture.png', words)
    assert picture.std() > 10


def test_dollars_are_drawn_and_logarithmic_axes_keep_their_powers(tmp_path):
    """As a formula, ``$x$`` has the letter alone; the powers of ten at the axis are formulas of matplotlib's."""
    assert np.abs(draw(tmp_path / 'a.png', '$x$') - draw(tmp_path / 'b.png', 'x')).max() > 100
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 1000], [1, 2])
    axes.set_xscale('log')
    save_figure(figure, tmp_path / 'log.png')
    assert all(label.get_parse_math() for label in axes.get_xticklabels())
