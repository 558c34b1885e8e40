import math
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, recall_score

from mmskin.evaluation.segmentation import KEYS, segmentation_scores
from mmskin.registry import METRICS


def test_scores_by_hand():
    gt = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0]])
    pred = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    # tp 3, fp 1, fn 1, tn 5
    expected = {'JA': 3 / 5, 'DI': 6 / 8, 'AC': 8 / 10, 'sensitivity': 3 / 4, 'specificity': 5 / 6}
    assert segmentation_scores(pred, gt) == expected
    assert segmentation_scores(torch.from_numpy(pred), torch.from_numpy(gt * 255)) == expected


@pytest.mark.parametrize(
    ('pred', 'gt', 'undefined'),
    [
        ([[0, 0]], [[0, 0]], {'JA', 'DI', 'sensitivity'}),
        ([[1, 0]], [[0, 0]], {'sensitivity'}),
        ([[1, 0]], [[1, 1]], {'specificity'}),
        ([[0, 0]], [[1, 0]], set()),
    ],
)
def test_undefined_scores_are_nan(pred, gt, undefined):
    scores = segmentation_scores(np.array(pred), np.array(gt))
    assert {key for key in KEYS if math.isnan(scores[key])} == undefined


def test_agrees_with_scikit_learn():
    pred, gt = np.random.default_rng(2).random((2, 40, 30)) > 0.4
    flat = gt.ravel(), pred.ravel()
    assert segmentation_scores(pred, gt) == pytest.approx(
        {
            'JA': jaccard_score(*flat),
            'DI': f1_score(*flat),
            'AC': accuracy_score(*flat),
            'sensitivity': recall_score(*flat),
            'specificity': recall_score(*flat, pos_label=0),
        }
    )


def test_metric_is_the_mean_over_images_not_over_pixels(make_sample, evaluate):
    small_and_wrong = make_sample('a', pred=[[0, 1]], gt=[[1, 0]])
    large_and_right = make_sample('b', pred=np.ones((50, 50)), gt=np.ones((50, 50)))
    results, _ = evaluate(['SegmentationMetric'], [small_and_wrong, large_and_right])
    # specificity is undefined for b, which has no background
    assert results == {'seg/JA': 0.5, 'seg/DI': 0.5, 'seg/AC': 0.5, 'seg/sensitivity': 0.5, 'seg/specificity': 0.0}


def test_each_row_has_the_lesions_share_of_its_image(make_sample, evaluate):
    _, (metric,) = evaluate(['SegmentationMetric'], [make_sample('a', pred=[[0, 1]], gt=[[1, 0]])])
    assert metric.per_image[0]['mask_share'] == 0.5
    assert 'seg/mask_share' not in metric.summarize(metric.per_image)


def test_samples_without_both_masks_are_passed_over(make_sample, evaluate):
    samples = [make_sample('a', gt=[[1]]), make_sample('b', pred=[[1]]), make_sample('c', pred=[[1, 0]], gt=[[1, 0]])]
    results, (metric,) = evaluate(['SegmentationMetric'], samples)
    assert results['seg/JA'] == 1.0
    assert [sorted(row) for row in metric.per_image[:2]] == [['image_id'], ['image_id']]
    assert evaluate(['SegmentationMetric'], samples[:2])[0] == {}


def test_masks_of_different_size_are_refused_by_name(make_sample, evaluate):
    sample = make_sample('ISIC_0000007', pred=np.ones((2, 3)), gt=np.ones((3, 2)))
    with pytest.raises(ValueError, match=r'ISIC_0000007: .*\(1, 2, 3\).*\(1, 3, 2\)'):
        evaluate(['SegmentationMetric'], [sample])


def test_memory_does_not_grow_with_image_size(make_sample):
    def kept_bytes(side):
        metric = METRICS.build({'type': 'SegmentationMetric'})
        mask = np.eye(side)
        sample = make_sample('a', pred=mask, gt=mask).to_dict()
        tracemalloc.start()
        metric.process(None, [sample])
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return kept, len(pickle.dumps(metric.results))

    kept_bytes(8)  # first use of the functions allocates
    (small, small_row), (large, large_row) = kept_bytes(8), kept_bytes(1500)
    assert large - small < 2000
    assert large_row == small_row < 200
