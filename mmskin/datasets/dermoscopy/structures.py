"""Dermoscopic structures: pigment network, globules, streaks, milia-like cysts, comedo-like openings, fissures, veil.

Each function paints one over a picture, within an outline. What they look like and which diagnosis they speak for:
H. Kittler et al., "Standardization of terminology in dermoscopy/dermatoscopy", J. Am. Acad. Dermatol. 74(6), 2016.
"""

import numpy as np

from mmskin.datasets.dermoscopy.canvas import along, blend, dots, grid, ramp, smooth_noise
from mmskin.datasets.dermoscopy.outline import Outline


def network(picture: np.ndarray, outline: Outline, rng: np.random.Generator, disorder: float) -> np.ndarray:
    """A honeycomb of brown lines; ``disorder`` from 0 to 1 bends it and leaves it in patches."""
    shape = outline.depth.shape
    x, y = grid(shape)
    bend = 2.5 + 4 * disorder
    x, y = x + bend * smooth_noise(rng, shape, 14), y + bend * smooth_noise(rng, shape, 14)
    wave, tilt = 2 * np.pi / rng.uniform(4.8, 7.5), rng.uniform(0, np.pi)
    lattice = np.sum([np.cos(wave * along(x, y, tilt + turn * np.pi / 3)) for turn in range(3)], axis=0)
    patches = ramp(smooth_noise(rng, shape, 25), disorder - 1.0, disorder)
    strength = rng.uniform(0.3, 0.65) * patches * ramp(outline.depth, 0.0, 0.25)
    return blend(picture, (0.24, 0.13, 0.08), strength * ramp(-lattice, -0.9, 1.4))


def globules(picture: np.ndarray, outline: Outline, rng: np.random.Generator, disorder: float) -> np.ndarray:
    """Round brown to black dots; ordered ones are of one size and lie inside, others of many and near the border."""
    low, high = (0.05, 0.35) if disorder > 0.5 else (0.15, 1.0)
    points = outline.points_inside(rng, int(rng.integers(8, 28)), low, high)
    radii = rng.uniform(1.4 - 0.6 * disorder, 1.4 + 1.2 * disorder, len(points))
    return blend(picture, (0.16, 0.09, 0.07), 0.8 * dots(outline.depth.shape, points, radii))


def streaks(picture: np.ndarray, outline: Outline, rng: np.random.Generator) -> np.ndarray:
    """Dark rays that leave part of the border."""
    rays = ramp(np.cos(outline.angle * int(rng.integers(22, 34)) + rng.uniform(0, 6)), 0.1, 0.9)
    part = ramp(np.cos(outline.angle - rng.uniform(0, 2 * np.pi)), -0.2, 0.5)
    ring = ramp(outline.depth, -0.02, 0.04) * ramp(-outline.depth, -0.3, -0.1)
    return blend(picture, (0.13, 0.08, 0.07), 0.6 * rays * part * ring)


def veil(picture: np.ndarray, outline: Outline, rng: np.random.Generator) -> np.ndarray:
    """A blue-white haze over part of the lesion, without structure."""
    part = ramp(smooth_noise(rng, outline.depth.shape, outline.radius * 0.8), -0.3, 0.9)
    return blend(picture, (0.46, 0.49, 0.56), rng.uniform(0.5, 0.85) * part * ramp(outline.depth, 0.05, 0.4))


def cysts(picture: np.ndarray, outline: Outline, rng: np.random.Generator) -> np.ndarray:
    """Milia-like cysts: small bright spots, some starry and some cloudy."""
    points = outline.points_inside(rng, int(rng.integers(5, 18)), 0.12, 1.0)
    layer = dots(outline.depth.shape, points, rng.uniform(0.8, 2.4, len(points)))
    return blend(picture, (0.95, 0.89, 0.78), rng.uniform(0.6, 0.9) * layer)


def openings(picture: np.ndarray, outline: Outline, rng: np.random.Generator) -> np.ndarray:
    """Comedo-like openings: sharp round plugs, dark brown."""
    points = outline.points_inside(rng, int(rng.integers(5, 14)), 0.12, 1.0)
    layer = dots(outline.depth.shape, points, rng.uniform(1.5, 3.2, len(points)))
    return blend(picture, (0.22, 0.14, 0.08), 0.85 * layer)


def fissures(picture: np.ndarray, outline: Outline, rng: np.random.Generator) -> np.ndarray:
    """Dark winding furrows between ridges, as on a brain."""
    ridges = np.abs(smooth_noise(rng, outline.depth.shape, rng.uniform(7, 11)))
    furrows = ramp(-ridges, -0.35, 0.0) * ramp(outline.depth, 0.02, 0.2)
    return blend(picture, (0.27, 0.18, 0.11), rng.uniform(0.35, 0.7) * furrows)
