"""Answers that pages quote are those of the network that ships."""

import re

import pytest

from mmskin import LesionInferencer
from mmskin.datasets.synthetic import SyntheticLesions

ANSWER = re.compile(r'^(\w+)  ([a-z ]+) ([\d.]+)  lesion ([\d.]+) % of the image', re.M)


def test_answers_are_up_to_date(repository, tmp_path):
    pages = [(repository / f'docs/{name}.md').read_text() for name in ('predict', 'tour')]
    quoted = {name: rest for page in pages for name, *rest in ANSWER.findall(page)}
    assert {name.split('_')[0] for name in quoted} == {'painted', 'SYN'}
    SyntheticLesions().write(tmp_path, num_train=1, num_val=1, num_test=4)
    found = {
        path.stem: path
        for path in (*(repository / 'mmskin/samples').glob('*.jpg'), *tmp_path.glob('*_Test_v2_Data/*.jpg'))
    }
    inferencer = LesionInferencer(device='cpu')
    for name, (label, probability, share) in quoted.items():
        answer = inferencer(found[name])
        assert answer.label.replace('_', ' ') == label
        assert answer.probabilities[answer.label] == pytest.approx(float(probability), abs=0.011)
        assert 100 * answer.measurements.area_fraction == pytest.approx(float(share), abs=0.11)
