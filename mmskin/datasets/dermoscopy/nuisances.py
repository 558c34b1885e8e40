"""What dermoscopic pictures hold besides skin and lesion, whatever the diagnosis: hair, rulers and dark corners."""

import numpy as np

from mmskin.datasets.dermoscopy.canvas import blend, grid, ramp, stroke


def add_nuisances(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each nuisance with some chance, none depending on the lesion."""
    if rng.random() < 0.4:
        picture = hair(picture, rng)
    if rng.random() < 0.25:
        picture = ruler(picture, rng)
    if rng.random() < 0.35:
        picture = vignette(picture, rng)
    return picture


def hair(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some curved hairs of one colour, lying in about one direction."""
    height, width = picture.shape[:2]
    colour = np.array((0.18, 0.12, 0.09)) * rng.uniform(0.5, 1.8)
    lie = rng.uniform(0, np.pi)
    layers = []
    for _ in range(rng.integers(3, 13)):
        steps = np.linspace(-0.5, 0.5, 24) * rng.uniform(0.5, 1.3) * width
        angle = lie + rng.normal(0, 0.35) + steps / width * rng.normal(0, 0.9)
        start = rng.uniform(0, 1, 2) * (width, height)
        points = start + np.stack([steps * np.cos(angle), steps * np.sin(angle)], axis=1)
        layers.append(rng.uniform(0.5, 0.9) * stroke((height, width), points, rng.uniform(0.6, 2)))
    return blend(picture, colour, np.max(layers, axis=0))


def ruler(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Millimetre marks along one edge, every fifth longer."""
    height, width = picture.shape[:2]
    across, far, spacing = bool(rng.random() < 0.5), bool(rng.random() < 0.5), rng.uniform(5, 9)
    length, depth = (width, height) if across else (height, width)
    layers = []
    for index, place in enumerate(np.arange(rng.uniform(0, spacing), length, spacing)):
        reach = 0.09 * depth if index % 5 == 0 else 0.05 * depth
        tick = np.array([[place, depth - reach], [place, depth]]) if far else np.array([[place, 0], [place, reach]])
        layers.append(stroke((height, width), tick if across else tick[:, ::-1], 1))
    return blend(picture, (0.08, 0.08, 0.09), 0.8 * np.max(layers, axis=0))


def vignette(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The dark corners of a round field of view."""
    height, width = picture.shape[:2]
    x, y = grid((height, width))
    distance = np.hypot(x - width / 2, y - height / 2) / np.hypot(width, height) * 2  # 1 at the corners
    edge = rng.uniform(0.80, 0.95)
    return blend(picture, (0.03, 0.02, 0.02), ramp(distance, edge - 0.03, edge + 0.06))
