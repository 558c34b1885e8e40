"""What a design can see, against simulations and worked figures; and verdicts."""

import numpy as np
import pytest

from mmskin.benchmark.collect import verdict
from mmskin.benchmark.power import Noise, chance_to_see
from mmskin.evaluation.statistics import difference

CHURN = Noise(0.11, 0.005**2, '')


@pytest.mark.parametrize(
    ('images', 'seeds', 'folds', 'low', 'high'),
    [(600, 1, 1, 0.2, 0.35), (150, 3, 1, 0.1, 0.25), (2150, 2, 5, 0.8, 0.95), (2150, 3, 5, 0.94, 0.99)],
)
def test_the_gain_of_the_paper(images, seeds, folds, low, high):
    """+.022 of accuracy at 11 % churn; the normal approximation has .27, .20, .94 and .98."""
    assert low < chance_to_see(0.022, CHURN, images, seeds, folds, is_share=True) < high


def test_more_seeds_and_images_see_more():
    chances = [chance_to_see(0.01, CHURN, images, seeds, 5) for images, seeds in ((500, 2), (2000, 2), (2000, 3))]
    assert chances == sorted(chances)
    assert chance_to_see(0.0, CHURN, 2000, 3, 5) == pytest.approx(0.025)


def test_simulated_experiments_are_decided_as_often(num_images=200, num_folds=5, num_seeds=2, gain=0.012):
    """A mean over images whose networks differ by fold, seed and image."""
    rng = np.random.default_rng(0)
    image_sd, seed_sd, trials, decided = 0.06, 0.003, 300, 0
    fold = np.arange(num_images) % num_folds
    counts = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=200) / num_images
    for _ in range(trials):
        scores = [
            rng.normal(0, seed_sd, (num_seeds, num_folds))[:, fold]
            + rng.normal(0, image_sd / 2**0.5, (num_seeds, num_images))
            + gain * is_first
            for is_first in (1, 0)
        ]
        observed = tuple(one.mean(axis=1) for one in scores)
        parts = tuple(
            np.array([[np.where(fold == f, one[s], one[0]).mean() for s in range(num_seeds)] for f in range(num_folds)])
            for one in scores
        )
        found = difference(observed, tuple(one @ counts.T for one in scores), True, parts)
        decided += found.images_and_seeds[0] > 0
    expected = chance_to_see(gain, Noise(image_sd**2, seed_sd**2, ''), num_images, num_seeds, num_folds)
    assert decided / trials == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ('metric', 'ends', 'margin', 'expected'),
    [
        ('cls/AC', (0.001, 0.02), 0.012, 'better'),
        ('cls/AC', (-0.02, -0.001), None, 'worse'),
        ('cls/AC', (-0.01, 0.012), 0.012, 'equivalent within ±0.012'),
        ('cls/AC', (-0.01, 0.013), 0.012, 'undecided'),
        ('cls/AC', (-0.001, 0.001), None, 'undecided'),
        ('size/MAE_diameter', (0.1, 0.2), None, 'worse'),
    ],
)
def test_verdicts(metric, ends, margin, expected):
    assert verdict(metric, ends, margin) == expected
