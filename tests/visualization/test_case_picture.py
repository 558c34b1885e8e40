import math

import numpy as np
import pytest
from PIL import Image, ImageColor

from mmskin.visualization.cases import Case, captions, case_picture, read_image
from mmskin.visualization.overlay import PREDICTED, TRUE


def square(first, last):
    """The outline of pixels ``first`` to ``last`` of 320, as fractions."""
    corners = [(first, first), (last, first), (last, last), (first, last), (first, first)]
    return ((np.array(corners) + 0.5) / 320).astype(np.float16)


SQUARE = square(80, 240)
CASE = Case(
    'ISIC_0000001',
    None,
    'nevus',
    'seborrheic_keratosis',
    {'nevus': 0.2, 'seborrheic_keratosis': 0.8},
    0.5,
    [SQUARE],
    [square(40, 120)],
)


def has_color(picture, color):
    return bool((picture == ImageColor.getrgb(color)).all(axis=2).any())


def test_captions_name_the_case_and_say_what_is_right():
    assert [text for text, _ in captions(CASE)] == [
        'ISIC_0000001   Jaccard 0.50',
        'predicted: seborrheic keratosis 0.80 (wrong)',
        'true: nevus',
    ]


def test_captions_of_an_outline_alone():
    case = Case('a', jaccard=0.25, true_outlines=[SQUARE], pred_outlines=[SQUARE])
    assert [text for text, _ in captions(case)] == ['a   Jaccard 0.25', 'predicted: outline', 'true: outline']


def test_captions_without_ground_truth():
    case = Case('a', pred_class='nevus', scores={'nevus': 0.625}, jaccard=math.nan)
    assert [text for text, _ in captions(case)] == ['a', 'predicted: nevus 0.62', 'true: not known']


def test_outlines_are_where_they_belong():
    image = read_image(None)
    picture = case_picture(image, CASE)[: len(image)]
    assert picture[80, 160] == pytest.approx(ImageColor.getrgb(TRUE), abs=40)  # the upper edge of the square
    assert picture[120, 60] == pytest.approx(ImageColor.getrgb(PREDICTED), abs=40)  # the lower edge of the small one
    assert (picture[160, 160] == image[160, 160]).all()


def test_pictures_of_a_run_are_of_one_size():
    image = np.full((160, 200, 3), 200, np.uint8)
    pictures = [case_picture(image, case) for case in (CASE, Case('a'), Case('a' * 80))]
    assert len({picture.shape[1] for picture in pictures}) == 1
    assert not any(has_color(picture[:160], TRUE) for picture in pictures[1:])


def test_a_small_image_is_enlarged_until_its_caption_can_be_read(tmp_path):
    Image.new('RGB', (40, 20), 'red').save(tmp_path / 'small.png')
    assert read_image(str(tmp_path / 'small.png')).shape == (160, 320, 3)
