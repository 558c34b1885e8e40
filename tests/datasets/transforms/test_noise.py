import numpy as np
import pytest

from mmskin.datasets.transforms.noise import GaussianNoise, add_noise


@pytest.fixture(autouse=True)
def _seeded():
    np.random.seed(0)


def test_noise_has_the_standard_deviation_asked_for():
    grey = np.full((200, 200, 3), 128, np.uint8)
    difference = add_noise(grey, 10.0).astype(float) - 128
    assert difference.std() == pytest.approx(10, rel=0.02)
    assert difference.mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize('level', [0, 255])
def test_noise_is_clipped_and_does_not_wrap(level):
    noisy = add_noise(np.full((50, 50, 3), level, np.uint8), 10.0)
    assert np.abs(noisy.astype(int) - level).max() < 60


def test_noise_repeats_with_numpys_seed():
    grey = np.full((8, 8, 3), 128, np.uint8)
    first = GaussianNoise(prob=1.0)({'img': grey})['img']
    np.random.seed(0)
    assert np.array_equal(GaussianNoise(prob=1.0)({'img': grey})['img'], first)


def test_the_probability():
    grey = np.full((8, 8, 3), 128, np.uint8)
    changed = [np.any(GaussianNoise(20, prob=0.5)({'img': grey})['img'] != 128) for _ in range(400)]
    assert 0.4 < np.mean(changed) < 0.6
