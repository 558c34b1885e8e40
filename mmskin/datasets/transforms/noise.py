"""Gaussian noise."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class GaussianNoise(BaseTransform):
    """Add normal noise, independent per pixel and channel.

    Args:
        max_std: the standard deviation is drawn evenly from 0 to this, in grey levels of 0 to 255.
        prob: probability that an image gets noise at all.
    """

    def __init__(self, max_std: float = 8.0, prob: float = 0.5) -> None:
        self.max_std = max_std
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Replace ``img``."""
        if np.random.uniform() < self.prob:
            std = np.random.uniform(0, self.max_std)
            results['img'] = add_noise(results['img'], std)
        return results


def add_noise(image: np.ndarray, std: float) -> np.ndarray:
    """The uint8 image plus noise, clipped to 0 and 255; drawn in float32, twice as fast as numpy's global generator."""
    generator = np.random.default_rng(np.random.randint(2**32, dtype=np.uint32))
    noise = generator.standard_normal(image.shape, dtype=np.float32) * np.float32(std)
    return cv2.add(image, noise, dtype=cv2.CV_8U)
