"""One painter per diagnosis: its outline, its colours and the structures that speak for it, each with some chance."""

from collections.abc import Sequence

import numpy as np

from mmskin.datasets.dermoscopy import structures
from mmskin.datasets.dermoscopy.canvas import Colour, blend, ramp, smooth_noise
from mmskin.datasets.dermoscopy.outline import Outline, draw_outline

LIGHT_BROWN, BROWN, DARK_BROWN = (0.66, 0.45, 0.32), (0.50, 0.31, 0.21), (0.35, 0.21, 0.15)
BLACK, RED, GREY, WHITE = (0.15, 0.10, 0.10), (0.66, 0.38, 0.34), (0.46, 0.45, 0.47), (0.78, 0.68, 0.64)
WAXY, TAN, GREY_BROWN = (0.72, 0.56, 0.36), (0.62, 0.47, 0.33), (0.50, 0.41, 0.35)


def paint_melanoma(skin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Outline]:
    """Asymmetric, of many colours, with an irregular border and disordered structures."""
    outline = draw_outline(rng, skin.shape[:2], irregularity=rng.uniform(0.04, 0.10), lobes=int(rng.integers(1, 4)))
    others = [(LIGHT_BROWN, BLACK, RED, GREY, WHITE)[index] for index in rng.permutation(5)[: rng.integers(1, 4)]]
    picture = pigment(
        skin, outline, rng, (DARK_BROWN, BROWN, *others), cell=rng.uniform(0.5, 0.8), softness=rng.uniform(0.04, 0.2)
    )
    if rng.random() < 0.7:
        picture = structures.network(picture, outline, rng, disorder=rng.uniform(0.6, 1.0))
    if rng.random() < 0.7:
        picture = structures.globules(picture, outline, rng, disorder=1.0)
    if rng.random() < 0.5:
        picture = structures.streaks(picture, outline, rng)
    if rng.random() < 0.5:
        picture = structures.veil(picture, outline, rng)
    return picture, outline


def paint_nevus(skin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Outline]:
    """Round or oval, of one or two browns, with a soft border and ordered structures."""
    outline = draw_outline(rng, skin.shape[:2], irregularity=rng.uniform(0.02, 0.06), lobes=1)
    inner, rim = rng.permutation([LIGHT_BROWN, BROWN, DARK_BROWN])[:2]
    picture = pigment(skin, outline, rng, (rim,), cell=1.0, softness=rng.uniform(0.08, 0.25))
    centre = outline.depth + 0.25 * smooth_noise(rng, outline.depth.shape, 0.5 * outline.radius)
    picture = blend(picture, inner, rng.uniform(0.4, 0.9) * ramp(centre, 0.1, 0.8))
    if rng.random() < 0.75:
        picture = structures.network(picture, outline, rng, disorder=rng.uniform(0.0, 0.4))
    if rng.random() < 0.3:
        picture = structures.globules(picture, outline, rng, disorder=0.0)
    return picture, outline


def paint_seborrheic_keratosis(skin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Outline]:
    """Waxy, sharply bordered, with cysts, plugs and furrows, and no network."""
    outline = draw_outline(rng, skin.shape[:2], irregularity=rng.uniform(0.03, 0.07), lobes=int(rng.integers(1, 3)))
    tones = [(WAXY, TAN, GREY_BROWN, LIGHT_BROWN)[index] for index in rng.permutation(4)[:2]]
    picture = pigment(skin, outline, rng, tones, cell=0.35, softness=rng.uniform(0.02, 0.07))
    if rng.random() < 0.6:
        picture = structures.fissures(picture, outline, rng)
    if rng.random() < 0.85:
        picture = structures.cysts(picture, outline, rng)
    if rng.random() < 0.7:
        picture = structures.openings(picture, outline, rng)
    return picture, outline


PAINTERS = (paint_melanoma, paint_nevus, paint_seborrheic_keratosis)  # in the order of CLASSES


def pigment(
    skin: np.ndarray,
    outline: Outline,
    rng: np.random.Generator,
    colours: Sequence[Colour],
    cell: float,
    softness: float,
) -> np.ndarray:
    """Fill the outline with patches of the colours, of the size ``cell`` in radii, fading out over ``softness`` radii.

    The fading is centred on the border, where a physician would draw it.
    """
    shape = outline.depth.shape
    fields = np.stack([smooth_noise(rng, shape, cell * outline.radius) for _ in colours])  # (colours, H, W)
    weights = np.exp(4 * fields)
    shades = np.tensordot(weights / weights.sum(0), np.asarray(colours, np.float32), axes=(0, 0))  # (H, W, 3)
    texture = 0.07 * smooth_noise(rng, shape, 4) + 0.07 * smooth_noise(rng, shape, 12)
    shades = shades * (1 + texture)[..., None]
    cover = ramp(outline.depth, -softness, softness) * rng.uniform(0.85, 0.97)
    return blend(skin, shades, cover)
