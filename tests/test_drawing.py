"""Outlines, captions, thumbnails and figures; words in them are drawn as they were given."""

import json
import math

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageColor

from mmskin.drawing import (
    PREDICTED,
    TRUE,
    Case,
    add_caption,
    captions,
    case_picture,
    draw_outlines,
    draw_sheet,
    drawable,
    outlines,
    overlay,
    read_case_image,
    read_thumbnail,
    save_figure,
    thumbnail,
)
from mmskin.evaluation.contour_sheet import choose_cases, read_cases, write_cases

OUTLINE = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.25]], np.float16)


def test_cases_come_back_as_they_were_and_sorted(tmp_path):
    full = Case(
        'b', 'b.jpg', 'nevus', 'melanoma', {'nevus': 0.25, 'melanoma': 0.75}, 0.5, [OUTLINE], [OUTLINE, OUTLINE]
    )
    write_cases(tmp_path / 'new' / 'cases.json', [full, Case('a')])
    empty, again = read_cases(tmp_path / 'new' / 'cases.json')
    assert empty.image_id == 'a' and math.isnan(empty.jaccard) and empty.img_path is None
    assert (again.gt_class, again.pred_class, again.scores, again.jaccard) == (
        'nevus',
        'melanoma',
        full.scores,
        0.5,
    )
    assert len(again.pred_outlines) == 2 and (again.true_outlines[0] == OUTLINE).all()
    assert again.true_outlines[0].dtype == np.float16


@pytest.mark.parametrize('text', ['', '{"a": 1}', '[{"image_id": "a"}]', '[' * 100_000])
def test_another_file_is_named(tmp_path, text):
    (tmp_path / 'cases.json').write_text(text)
    with pytest.raises(ValueError, match=r'cases\.json: (damaged|was changed)'):
        read_cases(tmp_path / 'cases.json')


def test_file_is_json_without_nan(tmp_path):
    write_cases(tmp_path / 'cases.json', [Case('a')])
    assert (
        json.loads((tmp_path / 'cases.json').read_text(), parse_constant=lambda name: 1 / 0)['cases'][0]['jaccard']
        is None
    )


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
    image = read_case_image(None)
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
    assert read_case_image(str(tmp_path / 'small.png')).shape == (160, 320, 3)


def case(image_id, pred_class='nevus', jaccard=0.9, gt_class='nevus'):
    return Case(image_id, gt_class=gt_class, pred_class=pred_class, jaccard=jaccard, scores={'nevus': 0.75})


def ids(cases):
    return [case.image_id for case in cases]


def test_failures_have_their_place():
    cases = [case('a'), case('b'), case('c', 'melanoma'), case('d', jaccard=0.2), case('e', 'melanoma'), case('f')]
    assert ids(choose_cases(cases, 4)) == ['a', 'b', 'c', 'd']
    assert ids(choose_cases(cases[::-1], 4)) == ['a', 'b', 'c', 'd']


@pytest.mark.parametrize('count', [1, 2, 3, 9])
def test_count_is_kept_and_none_is_chosen_twice(count):
    cases = [case('a'), case('b', 'melanoma', math.nan), case('c', jaccard=0.1)]
    chosen = ids(choose_cases(cases, count))
    assert len(chosen) == len(set(chosen)) == min(count, 3)


def test_right_and_wrong_show_in_the_words():
    figure = draw_sheet({'': [case('a'), case('b', gt_class='melanoma'), case('c', gt_class=''), case('d', '')]})
    assert [axis.get_title() for axis in figure.axes] == ['nevus 0.75 ✓', 'nevus 0.75 ✗', 'nevus 0.75 ', '']
    assert figure.axes[0].get_xlabel() == 'a  JA 0.90\nnevus 0.75'
    assert [axis.title.get_color() for axis in figure.axes[:3]] == ['green', 'crimson', 'grey']


def test_outline_of_a_square_by_hand():
    mask = np.zeros((100, 200), bool)
    mask[20:40, 50:100] = True
    (line,) = outlines(mask)
    # border pixels' centres; a thumbnail of a small mask is the mask itself
    assert line.min(0) == pytest.approx([50.5 / 200, 20.5 / 100], abs=1e-3)
    assert line.max(0) == pytest.approx([99.5 / 200, 39.5 / 100], abs=1e-3)
    assert (line[0] == line[-1]).all()


def test_thumbnail_keeps_the_aspect():
    assert thumbnail(np.zeros((1000, 500, 3), np.uint8)).shape == (224, 112, 3)


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


@pytest.mark.parametrize('suffix', ['pdf', 'svg', 'png'])
def test_a_full_disk_is_said_of_the_figure(tmp_path, suffix):
    """Of a PDF that the disk cuts off, matplotlib has an AttributeError."""
    resource = pytest.importorskip('resource', reason='a limit to what is written')
    path, (soft, hard) = tmp_path / f'figure.{suffix}', resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(OSError, match='File too large') as caught:
            draw(path, 'words')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(path)
    assert not [*tmp_path.iterdir()]


PIXELS = [(10, 10), (10, 30), (30, 30), (30, 10)]


@pytest.mark.parametrize('scale', [1, 0.5, 4])
def test_an_outline_lies_where_the_lesion_is_at_every_size(scale):
    image = np.full((int(40 * scale), int(60 * scale), 3), 127, np.uint8)
    drawn = draw_outlines(image, [PIXELS], (40, 60))
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


def test_letters_of_other_alphabets_are_no_boxes():
    image = np.full((60, 300, 3), 127, np.uint8)
    captions = {text: add_caption(image, text).tobytes() for text in ('λ', 'Я', 'ż', 'ő', '\uffff')}
    assert len({*captions.values()}) == len(captions)  # the last has no letter


@pytest.mark.parametrize('shape', [(500, 1), (1, 500), (8, 8)])
def test_a_narrow_image_gets_white_sides(shape):
    captioned = add_caption(np.full((*shape, 3), 127, np.uint8), 'nevus 0.97    melanoma 0.03')
    assert (captioned[: shape[0]] == 127).all(axis=2).sum() == shape[0] * shape[1]
    assert (captioned[shape[0] :] < 128).any()


@pytest.mark.parametrize(('turn', 'shape', 'white_at'), [(1, (40, 80), (20, 10)), (6, (80, 40), (10, 20))])
def test_a_photograph_is_drawn_upright(tmp_path, turn, shape, white_at):
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(image).save(tmp_path / 'turned.jpg', exif=exif.tobytes(), quality=95)
    thumbnail = read_thumbnail(str(tmp_path / 'turned.jpg'))
    assert thumbnail.shape[:2] == shape
    assert thumbnail[white_at].min() > 250


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone\.jpg'):
        read_thumbnail(str(tmp_path / 'gone.jpg'))


def test_overlay_shows_image_and_map():
    """Viridis begins at (68, 1, 84) and ends at (253, 231, 36); half of it, and half of white."""
    image = np.full((4, 4, 3), 255, np.uint8)
    assert np.array_equal(overlay(image, np.zeros((1, 1)))[0, 0], [162, 128, 170])
    assert np.array_equal(overlay(image, np.ones((1, 1)))[0, 0], [254, 243, 146])
    assert np.array_equal(overlay(image, np.ones((1, 1)), strength=0), image)


def letters_of(path):
    return {chr(code) for code in FT2Font(path).get_charmap()}


@pytest.mark.parametrize('text', ['nevus', 'naïve α ж', 'Ⓐ 1', '病变_01', '肿瘤', 'ほくろ', '점', 'a\nb'])
def test_a_font_has_all_letters_of_what_is_drawn(text):
    """The packaged one, one of the system's, or else what no font has is escaped."""
    drawn, font, name = drawable(text)
    assert set(drawn) - {'\n'} <= letters_of(font)
    assert 'Last Resort' not in name
    if drawn != text:
        assert not any(
            set(text) <= letters_of(entry.fname) for entry in fontManager.ttflist if entry.name == 'STIXGeneral'
        )
        assert drawn.isascii() and drawn.encode().decode('unicode_escape') == text


def test_letters_of_another_font_are_drawn_with_it():
    """matplotlib comes with a second font, which has circled letters."""
    assert drawable('Ⓐ')[0] == 'Ⓐ'
    assert drawable('Ⓐ')[1] != drawable('A')[1]
    assert not np.array_equal(
        add_caption(np.zeros((9, 200, 3), np.uint8), 'Ⓐ'), add_caption(np.zeros((9, 200, 3), np.uint8), 'Ⓑ')
    )


@pytest.mark.parametrize('suffix', ['svg', 'png'])
def test_a_figure_has_no_boxes(tmp_path, suffix, recwarn):
    """Of letters in titles, labels, ticks and legends; matplotlib warns of each that a font lacks."""
    figure = Figure()
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], label='病变 Ⓐ')
    axis.set_xticks([0, 1], ['ほくろ', 'nevus'])
    axis.set(title='肿瘤', ylabel='Ⓐ')
    axis.legend()
    save_figure(figure, tmp_path / f'figure.{suffix}')
    assert [str(warning.message) for warning in recwarn if 'lyph' in str(warning.message)] == []
