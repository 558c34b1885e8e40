"""What the synthetic images are painted with: random fields, blending, and soft dots and strokes.

A picture is float32 RGB (H, W, 3) and a layer float32 (H, W), both from 0 to 1.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

Colour = Sequence[float]


def grid(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The x and y of every pixel, each (H, W)."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return x, y


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cell: float) -> np.ndarray:
    """A random field (H, W) around 0, mostly within -1 and 1, that changes over ``cell`` pixels."""
    coarse = [max(2, round(side / cell) + 2) for side in shape]
    values = rng.normal(0, 0.6, coarse).astype(np.float32)
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_CUBIC)


def blend(picture: np.ndarray, colour: Colour | np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The picture with ``colour``, one or a picture of them, laid over it where ``alpha`` (H, W) is 1."""
    weight = np.clip(alpha, 0, 1).astype(np.float32)[..., None]
    return picture + weight * (np.asarray(colour, np.float32) - picture)


def along(x: np.ndarray, y: np.ndarray, angle: float) -> np.ndarray:
    """How far each pixel lies in the direction ``angle``, in radians."""
    return x * math.cos(angle) + y * math.sin(angle)


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, and a smooth step between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def dots(shape: tuple[int, int], points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """A layer with a soft disc at each point (N, 2), x before y, of the radius beside it."""
    layer = np.zeros(shape, np.float32)
    for (x, y), radius in zip(points, radii, strict=True):
        cv2.circle(layer, (round(x * 16), round(y * 16)), round(radius * 16), 1.0, -1, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(layer, (0, 0), 0.9)


def stroke(shape: tuple[int, int], points: np.ndarray, width: float) -> np.ndarray:
    """A layer with an antialiased line through the points (N, 2), x before y."""
    layer = np.zeros(shape, np.uint8)
    path = np.round(points * 16).astype(np.int32)[:, None]
    cv2.polylines(layer, [path], False, 255, max(1, round(width)), cv2.LINE_AA, shift=4)
    return layer.astype(np.float32) / 255
