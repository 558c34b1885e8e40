"""The shape of a synthetic lesion."""

from dataclasses import dataclass

import numpy as np

from mmskin.datasets.dermoscopy.canvas import along, grid, smooth_noise


@dataclass(frozen=True)
class Outline:
    """A closed curve around the lesion, as a field of depths.

    Args:
        depth: (H, W), 0 on the border, 1 in the middle, negative outside; in units of the lesion's radius.
        angle: (H, W), the direction from the centre, in radians.
        radius: in pixels.
    """

    depth: np.ndarray
    angle: np.ndarray
    radius: float

    @property
    def mask(self) -> np.ndarray:
        """uint8 (H, W), 1 inside."""
        return (self.depth > 0).astype(np.uint8)

    def points_inside(self, rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
        """Up to ``count`` random points (N, 2), x before y, whose depth is from ``low`` to ``high``."""
        candidates = np.argwhere((self.depth >= low) & (self.depth <= high))[:, ::-1]
        return rng.permutation(candidates)[:count].astype(np.float32)


def draw_outline(rng: np.random.Generator, shape: tuple[int, int], irregularity: float, lobes: int) -> Outline:
    """A random outline near the middle of the picture.

    Args:
        rng: where every choice comes from.
        shape: of the picture, (height, width).
        irregularity: how far the border strays from an ellipse, as a fraction of the radius.
        lobes: number of ellipses that the lesion is the union of; more than one makes it asymmetric.
    """
    radius = float(rng.uniform(0.24, 0.38)) * min(shape)
    centre = np.array(shape[::-1]) * rng.uniform(0.42, 0.58, 2)
    x, y = grid(shape)
    fields = [lobe_depth(rng, x, y, centre, radius, irregularity)]
    for _ in range(lobes - 1):
        direction = rng.uniform(0, 2 * np.pi)
        offset = radius * rng.uniform(0.45, 0.75) * np.array([np.cos(direction), np.sin(direction)])
        fields.append(0.6 * lobe_depth(rng, x, y, centre + offset, 0.6 * radius, irregularity))
    depth = np.max(fields, axis=0) + 0.25 * irregularity * smooth_noise(rng, shape, radius / 4)
    return Outline(depth, np.arctan2(y - float(centre[1]), x - float(centre[0])), radius)


def lobe_depth(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, centre: np.ndarray, radius: float, irregularity: float
) -> np.ndarray:
    """The depth field of one ellipse whose radius wavers with the angle."""
    tilt, aspect = rng.uniform(0, np.pi), rng.uniform(0.78, 1.0)
    x, y = x - float(centre[0]), y - float(centre[1])
    major, minor = along(x, y, tilt) / radius, along(x, y, tilt + np.pi / 2) / (radius * aspect)
    turn = np.linspace(0, 2 * np.pi, 512, dtype=np.float32)
    orders = np.arange(2, 9, dtype=np.float32)[:, None]
    heights = rng.normal(0, irregularity, (7, 1)) / orders**0.7
    waver = (heights * np.cos(orders * turn + rng.uniform(0, 2 * np.pi, (7, 1)))).sum(0).astype(np.float32)
    angle = np.arctan2(minor, major) % (2 * np.pi)
    return 1 + waver[(angle / (2 * np.pi) * 511).astype(np.intp)] - np.hypot(major, minor)
