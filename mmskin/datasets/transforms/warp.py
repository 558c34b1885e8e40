"""Crop, zoom, rotation, flip and resize as one resampling."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.datasets.transforms.resize import input_size
from mmskin.errors import Mistake
from mmskin.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RandomWarp(BaseTransform):
    """Crop, resize, zoom, rotate and flip image and mask by one ``cv2.warpAffine`` each.

    The result is that of the steps one after another, without the blur and the cost of resampling at each step. Image
    and mask may have different sizes (a reduced image beside a full mask): the warp is drawn in fractions of the frame.
    What lies outside the frame is its reflection.

    Args:
        size: height and width of the result, in pixels; as ``LoadImage`` has it by default.
        crop: range of the crop's sides, as fractions of the frame's; each side is drawn on its own, its place evenly.
        zoom: range of the magnification about the centre.
        rotation: largest angle either way, in degrees. A lesion has no upright, so the default is all the way round.
        flip: probability of a horizontal flip, and of a vertical one.
    """

    def __init__(
        self,
        size: int | None = None,
        crop: tuple[float, float] = (0.8, 1.0),
        zoom: tuple[float, float] = (0.9, 1.1),
        rotation: float = 180.0,
        flip: float = 0.5,
    ) -> None:
        if not 0 < crop[0] <= crop[1] <= 1:
            raise Mistake(f'crop={crop} of RandomWarp is not a range within (0, 1].')
        if not 0 < zoom[0] <= zoom[1]:
            raise Mistake(f'zoom={zoom} of RandomWarp is not a range of positive magnifications.')
        self.size, self.crop, self.zoom, self.rotation, self.flip = size, crop, zoom, rotation, flip

    def transform(self, results: dict) -> dict:
        """Replace ``img``, ``img_shape`` and, where there is one, ``gt_seg_map``."""
        matrix, size = self.draw(), input_size(results, self.size)
        results['img'] = warp(results['img'], matrix, size, cv2.INTER_LINEAR)
        if 'gt_seg_map' in results:
            results['gt_seg_map'] = warp(results['gt_seg_map'], matrix, size, cv2.INTER_NEAREST)
        results['img_shape'] = (size, size)
        return results

    def draw(self) -> np.ndarray:
        """A random (3, 3) matrix from points of the result's frame to points of the input's, both unit squares."""
        sides = np.random.uniform(*self.crop, 2)
        corner = np.random.uniform(0, 1 - sides)
        zoom = np.random.uniform(*self.zoom)
        angle = np.radians(np.random.uniform(-self.rotation, self.rotation))
        flips = np.where(np.random.uniform(size=2) < self.flip, -1.0, 1.0)
        return crop_window(corner, sides) @ about_centre(rotate(-angle) / zoom @ np.diag(flips))


def crop_window(corner: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The map (3, 3) from a window's unit square to its place in the frame."""
    return affine(np.diag(sides), corner)


def about_centre(linear: np.ndarray) -> np.ndarray:
    """The linear map (2, 2) about the unit square's centre, as (3, 3)."""
    centre = np.array([0.5, 0.5])
    return affine(linear, centre - linear @ centre)


def rotate(angle: float) -> np.ndarray:
    """The rotation (2, 2) by ``angle``, in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def affine(linear: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The map ``x -> linear @ x + offset`` as (3, 3)."""
    return np.vstack([np.column_stack([linear, offset]), [0.0, 0.0, 1.0]])


def pixels(width: int, height: int) -> np.ndarray:
    """The map (3, 3) from the unit square to pixel coordinates, whose integers are the pixels' centres."""
    return affine(np.diag([width, height]), np.array([-0.5, -0.5]))


def warp(image: np.ndarray, matrix: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    """Resample ``image`` at the points that ``matrix`` (result to input, unit squares) says; (size, size[, C])."""
    height, width = image.shape[:2]
    to_source = pixels(width, height) @ matrix @ np.linalg.inv(pixels(size, size))
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, to_source[:2], (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT)
