import numpy as np
import pytest

from mmskin.datasets.transforms.processing import GaussianNoise


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


def noisy(level, shape=(50, 50, 3), **options):
    return GaussianNoise(**options)({'img': np.full(shape, level, np.uint8)})['img']


def test_standard_deviations_are_drawn_evenly():
    """The mean of std^2, with std even from 0 to s, is s^2 / 3."""
    differences = np.array([noisy(128, max_std=20, prob=1.0).astype(float) - 128 for _ in range(300)])
    assert differences.mean() == pytest.approx(0, abs=0.05)
    deviations = differences.reshape(300, -1).std(axis=1)
    assert (deviations**2).mean() == pytest.approx(20**2 / 3, rel=0.1)
    assert deviations.max() == pytest.approx(20, rel=0.04)


@pytest.mark.parametrize('level', [0, 255])
def test_noise_is_clipped_and_does_not_wrap(level):
    assert np.abs(noisy(level, max_std=10, prob=1.0).astype(int) - level).max() < 60


def test_noise_repeats_with_numpys_seed():
    first = noisy(128, prob=1.0)
    np.random.seed(0)
    assert np.array_equal(noisy(128, prob=1.0), first)


def test_the_probability():
    changed = [np.any(noisy(128, (8, 8, 3), max_std=20, prob=0.5) != 128) for _ in range(400)]
    assert 0.4 < np.mean(changed) < 0.6
