"""What the synthetic images are painted with: skin, lesions of three diagnoses, hair, rulers and dark corners.

A picture is float32 RGB (H, W, 3) and a layer float32 (H, W), both from 0 to 1. What the structures look like and which
diagnosis they speak for: H. Kittler et al., "Standardization of terminology in dermoscopy/dermatoscopy", J. Am. Acad.
Dermatol. 74(6), 2016.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    """A layer with a soft disc at each point (N, 2), x before y, each of its radius."""
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


FAIR, TANNED = np.array((0.93, 0.77, 0.71), np.float32), np.array((0.80, 0.61, 0.52), np.float32)


def paint_skin(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A picture (H, W, 3) of bare skin: a tone, blotches of redness, furrows, pores, and light from one side."""
    tone = FAIR + rng.uniform(0, 1) * (TANNED - FAIR) + rng.normal(0, 0.02, 3).astype(np.float32)
    blotches = 0.03 * smooth_noise(rng, shape, 40)[..., None] * np.array((0.5, 1.0, 0.9), np.float32)
    x, y = grid(shape)
    bent = x + 3 * smooth_noise(rng, shape, 25), y + 3 * smooth_noise(rng, shape, 25)
    first = rng.uniform(0, np.pi)
    angles = (first, first + rng.uniform(1.0, 1.6))
    furrows = [np.sin(along(*bent, angle) * rng.uniform(0.5, 0.8)) for angle in angles]  # two crossing sets
    relief = 0.012 * furrows[0] * furrows[1] + 0.015 * smooth_noise(rng, shape, 2.5)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.1)
    light = strength * along(x / shape[1] - 0.5, y / shape[0] - 0.5, angle)
    return tone + blotches + (relief + light)[..., None]


@dataclass(frozen=True)
class Outline:
    """A closed curve around the lesion, as a field of depths.

    Args:
        depth: (H, W), above 0 inside, 0 on the border, 1 in the middle; in units of the lesion's radius.
        angle: (H, W), the direction from the centre, in radians.
        radius: in pixels.
    """

    depth: np.ndarray
    angle: np.ndarray
    radius: float

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
        picture = network(picture, outline, rng, disorder=rng.uniform(0.6, 1.0))
    if rng.random() < 0.7:
        picture = globules(picture, outline, rng, disorder=1.0)
    if rng.random() < 0.5:  # streaks: dark rays that leave part of the border
        rays = ramp(np.cos(outline.angle * int(rng.integers(22, 34)) + rng.uniform(0, 6)), 0.1, 0.9)
        part = ramp(np.cos(outline.angle - rng.uniform(0, 2 * np.pi)), -0.2, 0.5)
        ring = ramp(outline.depth, -0.02, 0.04) * ramp(-outline.depth, -0.3, -0.1)
        picture = blend(picture, (0.13, 0.08, 0.07), 0.6 * rays * part * ring)
    if rng.random() < 0.5:  # a veil: a blue-white haze over part of the lesion, without structure
        part = ramp(smooth_noise(rng, outline.depth.shape, outline.radius * 0.8), -0.3, 0.9)
        cover = rng.uniform(0.5, 0.85) * part * ramp(outline.depth, 0.05, 0.4)
        picture = blend(picture, (0.46, 0.49, 0.56), cover)
    return picture, outline


def paint_nevus(skin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Outline]:
    """Round or oval, of one or two browns, with a soft border and ordered structures."""
    outline = draw_outline(rng, skin.shape[:2], irregularity=rng.uniform(0.02, 0.06), lobes=1)
    inner, rim = rng.permutation([LIGHT_BROWN, BROWN, DARK_BROWN])[:2]
    picture = pigment(skin, outline, rng, (rim,), cell=1.0, softness=rng.uniform(0.08, 0.25))
    centre = outline.depth + 0.25 * smooth_noise(rng, outline.depth.shape, 0.5 * outline.radius)
    picture = blend(picture, inner, rng.uniform(0.4, 0.9) * ramp(centre, 0.1, 0.8))
    if rng.random() < 0.75:
        picture = network(picture, outline, rng, disorder=rng.uniform(0.0, 0.4))
    if rng.random() < 0.3:
        picture = globules(picture, outline, rng, disorder=0.0)
    return picture, outline


def paint_seborrheic_keratosis(skin: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, Outline]:
    """Waxy, sharply bordered, with cysts, plugs and furrows, and no network."""
    outline = draw_outline(rng, skin.shape[:2], irregularity=rng.uniform(0.03, 0.07), lobes=int(rng.integers(1, 3)))
    tones = [(WAXY, TAN, GREY_BROWN, LIGHT_BROWN)[index] for index in rng.permutation(4)[:2]]
    picture = pigment(skin, outline, rng, tones, cell=0.35, softness=rng.uniform(0.02, 0.07))
    shape = outline.depth.shape
    if rng.random() < 0.6:  # fissures: dark winding furrows between ridges, as on a brain
        ridges = np.abs(smooth_noise(rng, shape, rng.uniform(7, 11)))
        furrows = ramp(-ridges, -0.35, 0.0) * ramp(outline.depth, 0.02, 0.2)
        picture = blend(picture, (0.27, 0.18, 0.11), rng.uniform(0.35, 0.7) * furrows)
    if rng.random() < 0.85:  # milia-like cysts: small bright spots, some starry and some cloudy
        points = outline.points_inside(rng, int(rng.integers(5, 18)), 0.12, 1.0)
        layer = dots(shape, points, rng.uniform(0.8, 2.4, len(points)))
        picture = blend(picture, (0.95, 0.89, 0.78), rng.uniform(0.6, 0.9) * layer)
    if rng.random() < 0.7:  # comedo-like openings: sharp round plugs, dark brown
        points = outline.points_inside(rng, int(rng.integers(5, 14)), 0.12, 1.0)
        layer = dots(shape, points, rng.uniform(1.5, 3.2, len(points)))
        picture = blend(picture, (0.22, 0.14, 0.08), 0.85 * layer)
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


def add_nuisances(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hair, a ruler and dark corners, each with some chance, none depending on the lesion."""
    height, width = picture.shape[:2]
    if rng.random() < 0.4:  # curved hairs of one colour, lying in about one direction
        colour = np.array((0.18, 0.12, 0.09)) * rng.uniform(0.5, 1.8)
        lie, layers = rng.uniform(0, np.pi), []
        for _ in range(rng.integers(3, 13)):
            steps = np.linspace(-0.5, 0.5, 24) * rng.uniform(0.5, 1.3) * width
            angle = lie + rng.normal(0, 0.35) + steps / width * rng.normal(0, 0.9)
            start = rng.uniform(0, 1, 2) * (width, height)
            points = start + np.stack([steps * np.cos(angle), steps * np.sin(angle)], axis=1)
            layers.append(rng.uniform(0.5, 0.9) * stroke((height, width), points, rng.uniform(0.6, 2)))
        picture = blend(picture, colour, np.max(layers, axis=0))
    if rng.random() < 0.25:  # a ruler: millimetre marks along one edge, every fifth longer
        across, far, spacing = bool(rng.random() < 0.5), bool(rng.random() < 0.5), rng.uniform(5, 9)
        length, depth = (width, height) if across else (height, width)
        layers = []
        for index, place in enumerate(np.arange(rng.uniform(0, spacing), length, spacing)):
            reach = 0.09 * depth if index % 5 == 0 else 0.05 * depth
            tick = np.array([[place, depth - reach], [place, depth]]) if far else np.array([[place, 0], [place, reach]])
            layers.append(stroke((height, width), tick if across else tick[:, ::-1], 1))
        picture = blend(picture, (0.08, 0.08, 0.09), 0.8 * np.max(layers, axis=0))
    if rng.random() < 0.35:  # the dark corners of a round field of view
        x, y = grid((height, width))
        distance = np.hypot(x - width / 2, y - height / 2) / np.hypot(width, height) * 2  # 1 at the corners
        edge = rng.uniform(0.80, 0.95)
        picture = blend(picture, (0.03, 0.02, 0.02), ramp(distance, edge - 0.03, edge + 0.06))
    return picture
