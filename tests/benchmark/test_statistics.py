import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap, norm
from sklearn.metrics import average_precision_score, roc_auc_score

from mmskin.benchmark.statistics import (
    difference,
    image_counts,
    interval,
    seed_draws,
    weighted_auc,
    weighted_average_precision,
    weighted_mean,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def every_draw(num):
    """The counts of all ``num ** num`` draws with replacement."""
    return np.array([np.bincount(draw, minlength=num) for draw in itertools.product(range(num), repeat=num)], float)


def compare(first, second, counts, same_networks=False):
    """Differences of means of (S, N) values."""
    observed = tuple(values.mean(axis=1) for values in (first, second))
    resampled = tuple(np.array([weighted_mean(row, counts) for row in values]) for values in (first, second))
    return difference(observed, resampled, rng(1), same_networks)


def test_means_of_all_resamples_by_hand():
    # Of 0, 1 and 5 the 27 draws have these sums, each as often as it can be ordered.
    expected = {0: 1, 1: 3, 2: 3, 3: 1, 5: 3, 6: 6, 7: 3, 10: 3, 11: 3, 15: 1}
    sums = np.round(3 * weighted_mean(np.array([0.0, 1, 5]), every_draw(3))).astype(int)
    assert dict(zip(*np.unique(sums, return_counts=True), strict=True)) == expected


def test_an_interval_by_hand():
    # Per-image differences 0 and 1: the resampled means are 0, 1/2, 1/2, 1, so 95 % of them reach from 0 to 1.
    found = compare(np.array([[0.5, 1.0]]), np.array([[0.5, 0.0]]), image_counts(2, 2000, rng()))
    assert found.value == pytest.approx(0.5)
    assert found.images == (0, 1)
    assert found.images_and_seeds is None


def test_a_difference_that_all_images_share_has_no_interval():
    hard = rng().random((1, 40))
    found = compare(hard + 0.1, hard, image_counts(40, 500, rng()))
    assert found.images == pytest.approx((0.1, 0.1))


def test_agrees_with_scipy():
    values = rng(3).exponential(size=(2, 80))
    found = compare(values[:1], values[1:], image_counts(80, 20000, rng()))
    theirs = bootstrap((values[0] - values[1],), np.mean, n_resamples=20000, method='percentile', rng=rng(4))
    assert found.images == pytest.approx(tuple(theirs.confidence_interval), abs=0.01)


def test_seed_draws_give_the_variance_of_the_mean_over_seeds():
    seeds = np.array([0.1, 0.5, 0.9])
    means = seeds[seed_draws(3, 200_000, rng())].mean(axis=1)
    assert means.var() == pytest.approx(seeds.var(ddof=1) / 3, rel=0.02)


def test_images_and_seeds_by_the_formula():
    """Values that depend on the seed alone: the interval is the normal one of two independent means, nearly."""
    first, second = (np.repeat(rng(seed).normal(size=(30, 1)), 10, axis=1) for seed in (0, 1))
    found = compare(first, second, image_counts(10, 20000, rng()))
    error = np.sqrt(first[:, 0].var(ddof=1) / 30 + second[:, 0].var(ddof=1) / 30)
    assert found.images == pytest.approx((found.value, found.value))
    expected = found.value + error * norm.ppf([0.025, 0.975])
    assert found.images_and_seeds == pytest.approx(tuple(expected), abs=0.06)


def test_the_same_networks_are_drawn_together():
    seeds = np.repeat([[0.0], [1.0], [2.0]], 20, axis=1)
    counts = image_counts(20, 1000, rng())
    assert compare(seeds + 0.25, seeds, counts, same_networks=True).images_and_seeds == pytest.approx((0.25, 0.25))
    assert compare(seeds + 0.25, seeds, counts).images_and_seeds[0] < -1


@pytest.mark.parametrize('seed_spread', [0.0, 0.05])
def test_coverage(seed_spread):
    """Of 400 experiments with three seeds, about 95 % of the intervals hold the true difference of 0.

    Two methods share how hard an image is. Where training has a spread, images alone cover too little, and images and
    seeds about what they should: three seeds say little on their spread, so it may be less than 95 %.
    """
    hits = np.zeros((400, 2))
    generator = rng(11)
    for experiment in hits:
        hard = generator.normal(0, 0.2, 100)
        methods = [
            hard + generator.normal(0, seed_spread, (3, 1)) + generator.normal(0, 0.1, (3, 100)) for _ in range(2)
        ]
        found = compare(*methods, image_counts(100, 400, generator))
        experiment[:] = [low <= 0 <= high for low, high in (found.images, found.images_and_seeds)]
    images, both = hits.mean(axis=0)
    if seed_spread:
        assert images < 0.6
        assert 0.75 < both < 0.99
    else:
        assert 0.92 < images < 0.98
        assert both > 0.92


def test_areas_are_those_of_scikit_learn_on_the_repeated_images():
    generator = rng(5)
    positive, scores = generator.random(40) > 0.7, generator.integers(0, 9, 40) / 8
    counts = image_counts(40, 50, generator)
    for area, theirs in ((weighted_auc, roc_auc_score), (weighted_average_precision, average_precision_score)):
        found = area(positive, scores, counts)
        repeated = [np.repeat(np.arange(40), drawn.astype(int)) for drawn in counts]
        assert found == pytest.approx([theirs(positive[index], scores[index]) for index in repeated])


def test_undefined_is_left_out():
    counts = np.array([[1.0, 1, 0], [0, 0, 2]])
    assert weighted_mean(np.array([1.0, np.nan, 3]), counts).tolist() == [1, 3]
    assert np.isnan(weighted_auc(np.array([True, True, True]), np.array([0.1, 0.2, 0.3]), counts)).all()
    assert interval(np.array([np.nan, 1, 1])) == (1, 1)


def test_a_seed_repeats_the_draws():
    assert (image_counts(9, 4, rng()) == image_counts(9, 4, rng())).all()
    assert (image_counts(9, 4, rng()).sum(axis=1) == 9).all()
