import math

import numpy as np
import pytest

from mmskin.visualization.cases import Case, caption, choose_cases, verdict
from mmskin.visualization.overlay import outlines, thumbnail


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
    assert verdict(case('a')) == 'nevus 0.75 ✓'
    assert verdict(case('a', gt_class='melanoma')).endswith('✗')
    assert verdict(case('a', gt_class='')) == 'nevus 0.75 '
    assert caption(case('a')) == 'a  JA 0.90\nnevus 0.75'


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
