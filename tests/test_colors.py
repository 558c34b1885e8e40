"""A true outline is red and a predicted one blue, wherever an outline is drawn, and a key says so."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import ImageColor

from mmskin import LesionInferencer
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.drawing import PREDICTED, TRUE, Case, add_caption, draw_sheet
from mmskin.explain.explanation import draw_explanation, explain
from mmskin.inference.image_sources import find_images
from mmskin.web.page import part

SQUARE = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.25]], np.float16)


@pytest.fixture(scope='module')
def inferencer():
    return LesionInferencer(device='cpu')


@pytest.fixture(scope='module')
def image():
    return SyntheticLesions(seed=5).sample('train', 0)[0]


def count(picture, color):
    return int((picture[..., :3] == ImageColor.getrgb(color)).all(axis=2).sum())


def test_contour_sheet_and_its_key():
    figure = draw_sheet({'nevus': [Case('a', true_outlines=[SQUARE], pred_outlines=[SQUARE])]})
    assert [to_hex(line.get_color()) for line in figure.axes[0].lines] == [TRUE, PREDICTED]
    (legend,) = figure.legends
    key = {
        text.get_text(): to_hex(line.get_color()) for text, line in zip(legend.texts, legend.get_lines(), strict=True)
    }
    assert key == {'true contour': TRUE, 'predicted contour': PREDICTED}


def test_overlay_and_its_key(inferencer, image):
    prediction = inferencer(image)
    assert prediction.contours
    picture = np.asarray(prediction.overlay(image))
    drawn, below = picture[: len(image)], picture[len(image) :]
    assert count(drawn, PREDICTED) > 100
    key = add_caption(image, 'predicted outline', PREDICTED)[len(image) :]
    np.testing.assert_array_equal(below[: len(key)], key)


def test_explanation_and_its_key(inferencer, image, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda figure, file, **options: drawn.append(figure))
    (source,) = find_images(image)
    draw_explanation(explain(inferencer, source), tmp_path / 'why.png')
    (legend,) = drawn[0].subfigs[0].legends
    assert [text.get_text() for text in legend.texts] == ['predicted outline']
    assert to_hex(legend.get_lines()[0].get_color()) == PREDICTED
    assert count(drawn[0].axes[0].images[0].get_array(), PREDICTED) > 100


def test_page():
    css = part('page.css')
    assert f'polygon {{ fill: none; stroke: {PREDICTED}' in css
    assert f'background: {PREDICTED}' in css.partition('.line {')[2].partition('}')[0]
    assert '<span class="line"></span> predicted outline' in part('answer.html')
