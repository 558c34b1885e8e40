import numpy as np
import pytest

from mmskin.visualization.overlay import add_caption, draw_outlines

SQUARE = [(10, 10), (10, 30), (30, 30), (30, 10)]


@pytest.mark.parametrize('scale', [1, 0.5, 4])
def test_an_outline_lies_where_the_lesion_is_at_every_size(scale):
    image = np.full((int(40 * scale), int(60 * scale), 3), 127, np.uint8)
    drawn = draw_outlines(image, [SQUARE], (40, 60))
    assert (image == 127).all()
    y, x = np.nonzero((drawn[..., 2] > 200) & (drawn[..., 0] < 80))  # the blue of the line, smoothed
    expected = [(10.5 * scale - 0.5), (30.5 * scale - 0.5)]
    assert [x.min(), x.max()] == pytest.approx(expected, abs=1.5)  # of a line two pixels wide
    assert [y.min(), y.max()] == pytest.approx(expected, abs=1.5)  # of a line two pixels wide
    assert (drawn[: int(5 * scale)] == 127).all()


def test_nothing_to_outline_changes_nothing():
    image = np.full((8, 8, 3), 127, np.uint8)
    assert (draw_outlines(image, [], (8, 8)) == image).all()


@pytest.mark.parametrize('text', ['nevus 0.97', 'nevus 0.97    melanoma 0.03    seborrheic keratosis 0.01'])
def test_a_caption_fits_below(text):
    image = np.full((100, 150, 3), 127, np.uint8)
    captioned = add_caption(image, text)
    assert (captioned[:100] == image).all()
    strip = captioned[100:]
    assert strip.shape[1] == 150
    assert (strip < 128).any()
    assert (strip[:, [0, -1]] == 255).all()


@pytest.mark.parametrize('shape', [(500, 1), (1, 500), (8, 8)])
def test_a_narrow_image_gets_white_sides(shape):
    captioned = add_caption(np.full((*shape, 3), 127, np.uint8), 'nevus 0.97    melanoma 0.03')
    assert (captioned[: shape[0]] == 127).all(axis=2).sum() == shape[0] * shape[1]
    assert (captioned[shape[0] :] < 128).any()
