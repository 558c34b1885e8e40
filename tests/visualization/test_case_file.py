import json
import math

import numpy as np
import pytest

from mmskin.visualization.cases import Case, read_cases, write_cases

SQUARE = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.25]], np.float16)


def test_cases_come_back_as_they_were_and_sorted(tmp_path):
    full = Case('b', 'b.jpg', 'nevus', 'melanoma', {'nevus': 0.25, 'melanoma': 0.75}, 0.5, [SQUARE], [SQUARE, SQUARE])
    write_cases(tmp_path / 'new' / 'cases.json', [full, Case('a')])
    empty, again = read_cases(tmp_path / 'new' / 'cases.json')
    assert empty.image_id == 'a' and math.isnan(empty.jaccard) and empty.img_path is None
    assert (again.gt_class, again.pred_class, again.scores, again.jaccard) == (
        'nevus',
        'melanoma',
        full.scores,
        0.5,
    )
    assert len(again.pred_outlines) == 2 and (again.true_outlines[0] == SQUARE).all()
    assert again.true_outlines[0].dtype == np.float16


@pytest.mark.parametrize('text', ['', '{"a": 1}', '[{"image_id": "a"}]', '[' * 100_000])
def test_another_file_is_named(tmp_path, text):
    (tmp_path / 'cases.json').write_text(text)
    with pytest.raises(ValueError, match=r'cases\.json is no file of cases'):
        read_cases(tmp_path / 'cases.json')


def test_file_is_json_without_nan(tmp_path):
    write_cases(tmp_path / 'cases.json', [Case('a')])
    assert json.loads((tmp_path / 'cases.json').read_text(), parse_constant=lambda name: 1 / 0)[0]['jaccard'] is None
