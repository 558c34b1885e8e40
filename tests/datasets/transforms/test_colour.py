import colorsys

import numpy as np
import pytest
from torchvision.transforms import functional as F

from mmskin.datasets.transforms.processing import ColorJitter

LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture
def image():
    """Skin, without values near black or white, where a step of another library would clip."""
    return np.random.default_rng(0).integers((150, 90, 80), (200, 150, 130), (40, 30, 3)).astype(np.uint8)


def jitter(image, draw, **options):
    """What the transform gives if every random number is its range's ``draw``, from 0 to 1."""

    def uniform(low=0.0, high=1.0):
        return low + draw * (high - low)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, 'uniform', uniform)
        return ColorJitter(**options)({'img': image})['img']


def test_nothing_asked_for_changes_nothing(image):
    assert np.array_equal(ColorJitter()({'img': image})['img'], image)


@pytest.mark.parametrize('draw', [0.0, 1.0])
@pytest.mark.parametrize(
    ('option', 'reference'),
    [
        ('brightness', F.adjust_brightness),
        ('contrast', F.adjust_contrast),
        ('saturation', F.adjust_saturation),
    ],
)
def test_each_factor_is_torchvisions(image, option, reference, draw):
    changed = jitter(image, draw, **{option: 0.2})
    expected = np.asarray(reference(F.to_pil_image(image), 1.2 if draw else 0.8))
    assert np.abs(changed.astype(int) - expected).max() <= 2  # torchvision rounds the mean and each grey
    assert np.abs(changed.astype(int) - image).mean() > 1


def test_hue_turns_and_luma_stays(image):
    changed = jitter(image, 1.0, hue=0.05)
    assert np.abs((changed @ LUMA) - (image @ LUMA)).max() < 1.5
    before, after = (
        [colorsys.rgb_to_hsv(*pixel)[0] for pixel in part.reshape(-1, 3) / 255] for part in (image, changed)
    )
    turned = (np.subtract(after, before) + 0.5) % 1 - 0.5
    assert 0.03 < np.median(np.abs(turned)) < 0.08
    assert np.array_equal(jitter(image, 0.5, hue=0.05), image)


def test_an_image_follows_from_the_seed(image):
    def draw(seed):
        np.random.seed(seed)
        return ColorJitter(0.3, 0.3, 0.3, 0.03)({'img': image})['img']

    assert np.array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))


@pytest.mark.parametrize('options', [{'brightness': -0.1}, {'hue': 0.6}])
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match='ColorJitter: give numbers from 0, and a hue of at most 0.5'):
        ColorJitter(**options)
