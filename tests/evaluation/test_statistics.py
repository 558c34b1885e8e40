import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap, t
from sklearn.metrics import average_precision_score, roc_auc_score

from mmskin.evaluation.statistics import (
    difference,
    image_counts,
    interval,
    weighted_auc,
    weighted_average_precision,
    weighted_mean,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def every_draw(num):
    """The counts of all ``num ** num`` draws with replacement."""
    return np.array([np.bincount(draw, minlength=num) for draw in itertools.product(range(num), repeat=num)], float)


def compare(first, second, counts, paired_seeds=False):
    """Differences of means of (S, N) values."""
    observed = tuple(values.mean(axis=1) for values in (first, second))
    resampled = tuple(np.array([weighted_mean(row, counts) for row in values]) for values in (first, second))
    return difference(observed, resampled, paired_seeds)


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


def test_images_and_seeds_by_hand():
    """Values that depend on the seed alone: Welch's interval, or of paired seeds that of their differences."""
    first, second = (np.repeat(np.array([seeds]).T, 10, axis=1) for seeds in ([0.1, 0.2, 0.6], [0.1, 0.3, 0.5]))
    counts = image_counts(10, 100, rng())
    # Variances 0.07 and 0.04, thirds of which add up to 0.11 / 3, with 0.11^2 / (0.07^2 / 2 + 0.04^2 / 2) = 3.7231.
    half = t.ppf(0.975, 3.7230769) * np.sqrt(0.11 / 3)
    found = compare(first, second, counts)
    assert found.images == pytest.approx((0, 0))
    assert found.images_and_seeds == pytest.approx((-half, half))
    # Differences 0, -0.1 and 0.1, whose variance is 0.01.
    half = 4.302653 * np.sqrt(0.01 / 3)
    assert compare(first, second, counts, paired_seeds=True).images_and_seeds == pytest.approx((-half, half))


def test_images_alone_give_the_normal_interval():
    """All seeds find the same: nothing but the images' own variance is left."""
    first, second = (np.repeat(values[None], 3, axis=0) for values in rng(7).random((2, 60)))
    found = compare(first, second, image_counts(60, 20000, rng()))
    half = 1.96 * (first - second)[0].std() / np.sqrt(60)
    assert found.images_and_seeds == pytest.approx((found.value - half, found.value + half), abs=0.002)


def test_methods_without_any_difference_have_an_interval_of_nothing():
    same = np.full((3, 20), 0.5)
    assert compare(same, same, image_counts(20, 100, rng()), paired_seeds=True).images_and_seeds == (0, 0)


def test_seeds_that_agree_by_chance_leave_the_interval_over_images():
    """Two seeds whose means are the same number though they err on other images: their own spread looks like none."""
    first = np.zeros((2, 40))
    first[0, :20] = first[1, 20:] = rng(8).random(20)
    for paired_seeds in (True, False):
        found = compare(first, np.zeros((2, 40)), image_counts(40, 500, rng()), paired_seeds)
        assert found.images_and_seeds == found.images
        assert found.images[1] - found.images[0] > 0.05


@pytest.mark.parametrize('paired_seeds', [True, False])
def test_other_seeds_never_make_surer(paired_seeds):
    generator = rng(9)
    for _ in range(200):
        found = compare(*generator.random((2, 2, 30)), image_counts(30, 100, generator), paired_seeds)
        assert found.images_and_seeds[0] <= found.images[0] < found.images[1] <= found.images_and_seeds[1]


def test_undefined_resamples_do_not_widen_the_interval():
    seeds = rng(2).random((2, 3, 50))
    with_gap = np.concatenate([seeds, np.full((2, 3, 1), np.nan)], axis=2)
    observed = tuple(seeds.mean(axis=2))
    assert difference(observed, tuple(with_gap)) == difference(observed, tuple(seeds))


@pytest.mark.parametrize('paired_seeds', [True, False])
@pytest.mark.parametrize('seed_spread', [0.02, 0.03, 0.05])
def test_coverage(seed_spread, paired_seeds):
    """Of 600 experiments with three seeds, about 95 % of the intervals hold the true difference of 0.

    Two methods share how hard an image is. Images alone cover too little, since training has a spread.
    """
    hits = np.zeros((600, 2))
    generator = rng(11)
    for experiment in hits:
        hard, start = generator.normal(0, 0.05, 150), paired_seeds * generator.normal(0, 0.1, (3, 1))
        methods = [
            hard + start + generator.normal(0, seed_spread, (3, 1)) + generator.normal(0, 0.1, (3, 150))
            for _ in range(2)
        ]
        found = compare(*methods, image_counts(150, 100, generator), paired_seeds)
        experiment[:] = [low <= 0 <= high for low, high in (found.images, found.images_and_seeds)]
    images, both = hits.mean(axis=0)
    assert images < 0.7
    assert 0.93 <= both <= 0.98


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
