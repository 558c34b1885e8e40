"""The skin around a synthetic lesion."""

import numpy as np

from mmskin.datasets.dermoscopy.canvas import along, grid, smooth_noise

FAIR, TANNED = np.array((0.93, 0.77, 0.71), np.float32), np.array((0.80, 0.61, 0.52), np.float32)


def paint_skin(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) of bare skin: a tone, blotches of redness, furrows, pores, and light from one side."""
    tone = FAIR + rng.uniform(0, 1) * (TANNED - FAIR) + rng.normal(0, 0.02, 3).astype(np.float32)
    blotches = 0.03 * smooth_noise(rng, shape, 40)[..., None] * np.array((0.5, 1.0, 0.9), np.float32)
    relief = 0.012 * furrows(rng, shape) + 0.015 * smooth_noise(rng, shape, 2.5)
    return tone + blotches + (relief + light(rng, shape))[..., None]


def furrows(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Two crossing sets of fine lines (H, W), slightly bent."""
    x, y = grid(shape)
    x, y = x + 3 * smooth_noise(rng, shape, 25), y + 3 * smooth_noise(rng, shape, 25)
    first = rng.uniform(0, np.pi)
    angles = (first, first + rng.uniform(1.0, 1.6))
    waves = [np.sin(along(x, y, angle) * rng.uniform(0.5, 0.8)) for angle in angles]
    return waves[0] * waves[1]


def light(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A gradient of brightness (H, W) in a random direction."""
    x, y = grid(shape)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.1)
    return strength * along(x / shape[1] - 0.5, y / shape[0] - 0.5, angle)
