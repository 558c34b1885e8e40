import math
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from mmskin.evaluation import statistics
from mmskin.evaluation.statistics import (
    Measure,
    estimate,
    image_counts,
    mean_of,
    mean_over,
    weighted_auc,
    weighted_specificity,
)


def test_mean_and_its_interval():
    values = np.random.default_rng(1).normal(size=400)
    found = estimate({'mean': mean_over(values)})['mean']
    assert found.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20  # the normal interval, which the bootstrap's comes near for 400 images
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.15 * half)
    assert found.num_images == 400


def test_undefined_values_and_other_images_are_left_out():
    values = np.array([1.0, 3.0, math.nan, 100.0])
    found = estimate({'all': mean_over(values), 'group': mean_over(values, np.array([True, True, True, False]))})
    assert found['group'].value == 2 and found['group'].num_images == 2
    assert found['all'].num_images == 3


def test_few_images_have_no_interval_and_none_no_value():
    found = estimate({'few': mean_over(np.ones(9)), 'none': mean_over(np.full(9, np.nan))})
    assert found['few'].value == 1 and math.isnan(found['few'].low)
    assert math.isnan(found['none'].value) and found['none'].num_images == 0
    assert estimate({}) == {}


def test_metric_that_is_undefined_in_every_resample_has_no_interval():
    positive = np.zeros(20, bool)
    measure = Measure(partial(weighted_auc, positive, np.arange(20.0)), np.ones(20, bool))
    found = estimate({'AUC': measure})['AUC']
    assert math.isnan(found.value) and math.isnan(found.low)


def test_mean_of_metrics_leaves_out_undefined_ones():
    found = mean_of([lambda counts: np.array([1.0, np.nan, np.nan]), lambda counts: np.array([3.0, 5.0, np.nan])])
    np.testing.assert_array_equal(found(np.ones((3, 1))), [2, 5, np.nan])


def test_blocks_are_the_resamples_and_bounded(monkeypatch):
    values = np.random.default_rng(2).random(50)
    whole = estimate({'mean': mean_over(values)})['mean']
    monkeypatch.setattr(statistics, 'CELLS', 50 * 7)
    sizes = []
    estimate({'sizes': Measure(lambda counts: sizes.append(len(counts)) or counts[:, 0], np.ones(50, bool))}, 30)
    assert sizes == [7, 7, 7, 7, 2, 1]  # the last are all images once
    found = estimate({'mean': mean_over(values)})['mean']
    assert found == pytest.approx(whole)  # the generator's stream does not depend on the blocks


@pytest.mark.parametrize('sensitivity', [0.82, 0.89, 0.95, 1.0])
def test_specificity_at_a_sensitivity_is_the_official_one(sensitivity):
    rng = np.random.default_rng(3)
    positive, scores = rng.random(80) > 0.6, rng.random(80)
    counts = image_counts(80, 5, rng)
    found = weighted_specificity(sensitivity, positive, scores, np.vstack([np.ones(80), counts]))
    drawn = [np.repeat(np.arange(80), row.astype(int)) for row in counts]
    curves = [roc_curve(positive[rows], scores[rows]) for rows in [np.arange(80), *drawn]]
    assert found == pytest.approx([1 - false[np.argmax(true >= sensitivity)] for false, true, _ in curves])


def test_specificity_by_hand():
    positive, scores = np.array([1, 0, 1, 0, 0], bool), np.array([0.9, 0.8, 0.7, 0.6, 0.1])
    counts = np.ones((1, 5))
    assert weighted_specificity(0.5, positive, scores, counts) == 1
    assert weighted_specificity(0.51, positive, scores, counts) == pytest.approx(2 / 3)
    assert np.isnan(weighted_specificity(0.5, ~positive & False, scores, counts))
    assert np.isnan(weighted_specificity(0.5, positive | True, scores, counts))
