import csv
import json
import math

import numpy as np

from mmskin.evaluation.report import write_per_image, write_results


def test_results_are_json_without_nan(tmp_path):
    path = tmp_path / 'new' / 'results.json'
    write_results(path, {'seg/JA': np.float64(0.5), 'cls/AUC_mean': math.nan, 'cls/AC': 1})
    refuse = {'parse_constant': lambda name: 1 / 0}
    assert json.loads(path.read_text(), **refuse) == {'cls/AC': 1.0, 'cls/AUC_mean': None, 'seg/JA': 0.5}


def test_per_image_rows_are_joined_and_sorted(tmp_path, make_sample, evaluate):
    samples = [
        make_sample('b', 1, [0.25, 0.5, 0.25], pred=[[1, 1]], gt=[[1, 1]]),
        make_sample('a', None, [0.5, 0.25, 0.25]),
    ]
    _, metrics = evaluate(['SegmentationMetric', 'ClassificationMetric', 'ISIC2017ClassificationMetric'], samples)
    write_per_image(tmp_path / 'per_image.csv', [*metrics, object()])
    with open(tmp_path / 'per_image.csv', newline='') as file:
        first, second = csv.DictReader(file)
    assert [first['image_id'], second['image_id']] == ['a', 'b']
    assert first['cls/gt_label'] == '' and first['cls/pred_label'] == '0' and first['seg/JA'] == ''
    assert second['cls/score_nevus'] == '0.5' and second['seg/JA'] == '1.0'
    assert second['seg/specificity'] == ''  # undefined: no background


def test_no_metrics_leave_a_header(tmp_path):
    write_per_image(tmp_path / 'per_image.csv', [])
    assert (tmp_path / 'per_image.csv').read_text().strip() == 'image_id'
