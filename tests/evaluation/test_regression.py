import math

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from scipy import stats

from mmskin.evaluation.regression import correlations

METRIC = dict(type='RegressionMetric', task='shape', names=['diameter', 'irregularity'], lengths=['diameter'])


def sample(image_id, gt=None, pred=None):
    made = BaseDataElement(metainfo=dict(image_id=image_id, ori_shape=(90, 160), targets={'shape': 'gt_values'}))
    for key, values in (('gt_values', gt), ('shape_values', pred)):
        if values is not None:
            made.set_data({key: torch.tensor(values)})
    return made


SAMPLES = [
    sample('a', gt=[0.5, 0.0], pred=[0.25, 0.125]),
    sample('b', gt=[0.25, 0.5], pred=[0.5, 0.25]),
    sample('c', gt=[0.75, 0.25], pred=[0.75, 0.5]),
    sample('d', pred=[0.5, 0.5]),
    sample('e', gt=[0.5, 0.5]),
    sample('f'),
]


def test_correlations_by_hand():
    """Deviations (-1, 0, 1) and (-2, -1, 3): 5 / sqrt(2 * 14); the ranks agree."""
    expected = {'pearson': 5 / math.sqrt(28), 'spearman': 1.0}
    assert correlations([1, 2, 3], [0, 1, 5]) == pytest.approx(expected)
    assert correlations([3, 2, 1], [0, 1, 5])['spearman'] == pytest.approx(-1)


@pytest.mark.parametrize(('pred', 'gt'), [([1, 1, 1], [1, 2, 3]), ([1, 2], [0.5, 0.5]), ([1], [2])])
def test_a_constant_has_no_correlation(pred, gt):
    assert all(map(math.isnan, correlations(pred, gt).values()))


def test_scores_by_hand(evaluate):
    """Of three images; the others lack one side or both. Ranks of diameters: (2, 1, 3) and (1, 2, 3)."""
    results, _ = evaluate([METRIC], SAMPLES)
    assert results == pytest.approx(
        {
            'shape/MAE_diameter': (0.25 + 0.25 + 0) / 3,
            'shape/MAE_irregularity': (0.125 + 0.25 + 0.25) / 3,
            'shape/pearson_diameter': 0.5,
            'shape/pearson_irregularity': stats.pearsonr([0, 4, 2], [1, 2, 4])[0],
            'shape/spearman_diameter': 0.5,
            'shape/spearman_irregularity': 0.5,
        }
    )


def test_rows(evaluate):
    _, (metric,) = evaluate([METRIC], SAMPLES)
    assert len(metric.per_image) == len(SAMPLES)
    assert metric.per_image[0] == dict(
        image_id='a',
        gt_diameter=0.5,
        gt_irregularity=0.0,
        pred_diameter=0.25,
        pred_irregularity=0.125,
        MAE_diameter=0.25,
        MAE_irregularity=0.125,
        pred_diameter_px=0.25 * 120,  # sqrt(90 * 160)
    )
    assert {*metric.per_image[3]} == {'image_id', 'pred_diameter', 'pred_irregularity', 'pred_diameter_px'}
    assert metric.per_image[5] == dict(image_id='f')


def test_without_names_values_have_numbers(evaluate):
    results, _ = evaluate([dict(type='RegressionMetric', task='shape')], SAMPLES)
    assert {'shape/MAE_0', 'shape/MAE_1'} <= {*results}


def test_order_changes_no_digit(evaluate):
    numbers = np.random.default_rng(0).random((40, 2, 2)).astype(np.float32)
    made = [sample(str(index), gt=gt.tolist(), pred=pred.tolist()) for index, (gt, pred) in enumerate(numbers)]
    assert evaluate([METRIC], made[::-1])[0] == evaluate([METRIC], made)[0]


def test_nothing_to_judge(evaluate):
    assert evaluate([METRIC], SAMPLES[3:])[0] == {}


@pytest.mark.parametrize(
    ('options', 'message'),
    [(dict(names=['one'], lengths=[]), 'names one, but samples have 2'), (dict(lengths=['area']), 'area not among')],
)
def test_names_that_do_not_fit(evaluate, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate([{**METRIC, **options}], SAMPLES)
