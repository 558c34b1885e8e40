"""What happens to a sample between loading and packing: warps, colours, noise, measures, inputs dropped."""

from statistics import NormalDist

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmskin.datasets.transforms.loading import input_size
from mmskin.errors import Mistake
from mmskin.masks import diameter, irregularity, largest_component
from mmskin.registry import TRANSFORMS

LUMA = np.array([0.299, 0.587, 0.114])  # of R, G and B, in ITU-R BT.601
YIQ = np.stack([LUMA, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # luma and two axes of colour, from RGB
NORMAL = np.array([NormalDist().inv_cdf((level + 0.5) / 256) for level in range(256)])  # as many equally likely values
NORMAL /= NORMAL.std()


@TRANSFORMS.register_module()
class RandomWarp(BaseTransform):
    """Crop, resize, zoom, rotate and flip image and masks by one ``cv2.warpAffine`` each.

    The result is that of the steps one after another, without the blur and the cost of resampling at each step. Image
    and masks may have different sizes (a reduced image and a full mask): the warp is drawn in fractions of the frame.
    What lies outside the frame is its reflection. Every array of pixels that begins with ``gt_`` is a mask, (H, W) or
    (H, W, C).

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
            raise Mistake(f'crop={crop} of RandomWarp is not a range within (0, 1]')
        if not 0 < zoom[0] <= zoom[1]:
            raise Mistake(f'zoom={zoom} of RandomWarp is not a range of positive magnifications')
        if rotation < 0 or not 0 <= flip <= 1:
            raise Mistake(f'rotation={rotation}, flip={flip} of RandomWarp: give an angle from 0, and a probability')
        self.size, self.crop, self.zoom, self.rotation, self.flip = size, crop, zoom, rotation, flip

    def transform(self, results: dict) -> dict:
        """Replace ``img``, ``img_shape`` and the masks."""
        matrix, size = self.draw(), input_size(results, self.size)
        results['img'] = warp(results['img'], matrix, size, cv2.INTER_LINEAR)
        for key, mask in results.items():
            if key.startswith('gt_') and isinstance(mask, np.ndarray) and mask.ndim > 1:
                channels = mask[..., None] if mask.ndim == 2 else mask  # one by one: OpenCV warps four at most
                warped = [
                    warp(channels[..., index], matrix, size, cv2.INTER_NEAREST) for index in range(len(channels[0, 0]))
                ]
                results[key] = warped[0] if mask.ndim == 2 else np.stack(warped, axis=-1)
        results['img_shape'] = (size, size)
        return results

    def draw(self) -> np.ndarray:
        """A random (3, 3) matrix from points of the result's frame to points of the input's, both unit squares."""
        sides = np.random.uniform(*self.crop, 2)
        corner = np.random.uniform(0, 1 - sides)
        zoom = np.random.uniform(*self.zoom)
        angle = np.radians(np.random.uniform(-self.rotation, self.rotation))
        flips = np.where(np.random.uniform(size=2) < self.flip, -1.0, 1.0)
        linear, centre = rotate(-angle) / zoom @ np.diag(flips), np.array([0.5, 0.5])
        return affine(np.diag(sides), corner) @ affine(linear, centre - linear @ centre)


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Vary brightness, contrast, saturation and hue of a uint8 RGB image by one matrix.

    The options are those of ``mmpretrain.ColorJitter``. There each step makes an image and hue is shifted in HSV; here
    the steps are affine maps of RGB, one after another without a clip between them, and hue turns the two axes of
    colour of YIQ, at the same luma (Haeberli, Matrix operations for image processing, 1993).

    Args:
        brightness: The factor is drawn evenly from 1 less this, and not below 0, to 1 more.
        contrast: Likewise.
        saturation: Likewise.
            Contrast goes towards the image's mean grey, saturation towards each pixel's own.
        hue: largest turn either way, as a fraction of the whole circle, at most 0.5.
    """

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
    ) -> None:
        if min(brightness, contrast, saturation, hue) < 0 or hue > 0.5:
            raise Mistake(
                f'brightness={brightness}, contrast={contrast}, saturation={saturation}, hue={hue} of ColorJitter: '
                'give numbers from 0, and a hue of at most 0.5'
            )
        self.factors, self.hue = (brightness, contrast, saturation), hue

    def transform(self, results: dict) -> dict:
        """Replace ``img``."""
        brightness, contrast, saturation = (np.random.uniform(max(0.0, 1 - most), 1 + most) for most in self.factors)
        turn = np.eye(3)
        turn[1:, 1:] = rotate(2 * np.pi * np.random.uniform(-self.hue, self.hue))
        colour = np.linalg.inv(YIQ) @ turn @ YIQ
        colour = brightness * colour @ (saturation * np.eye(3) + (1 - saturation) * LUMA)
        grey = brightness * LUMA @ cv2.mean(results['img'])[:3]
        matrix = np.column_stack([contrast * colour, np.full(3, (1 - contrast) * grey)])
        results['img'] = cv2.transform(results['img'], matrix)
        return results


@TRANSFORMS.register_module()
class GaussianNoise(BaseTransform):
    """Add normal noise to a uint8 image, independent per pixel and channel.

    A pixel's byte of randomness picks one of 256 equally likely values of the normal distribution, up to 2.9 standard
    deviations: a sixth of the time that a generator of normal numbers takes.

    Args:
        max_std: the standard deviation is drawn evenly from 0 to this, in grey levels of 0 to 255.
        prob: probability that an image gets noise at all.
    """

    def __init__(self, max_std: float = 8.0, prob: float = 0.5) -> None:
        if max_std < 0 or not 0 <= prob <= 1:
            raise Mistake(f'max_std={max_std}, prob={prob} of GaussianNoise: give a number from 0, and a probability')
        self.max_std = max_std
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Replace ``img``."""
        if np.random.uniform() < self.prob:
            image, values = results['img'], NORMAL * np.random.uniform(0, self.max_std)
            generator = np.random.Generator(np.random.SFC64(np.random.randint(2**32, dtype=np.uint32)))
            draws = generator.integers(2**64 - 1, size=-(-image.size // 8), dtype=np.uint64, endpoint=True)
            draws = draws.view(np.uint8)[: image.size].reshape(image.shape)  # eight pixels' bytes at once
            noise = cv2.LUT(draws, np.clip(values.round(), -255, 255).astype(np.int16))
            results['img'] = cv2.add(image, noise, dtype=cv2.CV_8U)
        return results


@TRANSFORMS.register_module()
class MeasureLesion(BaseTransform):
    """Write the lesion's diameter and irregularity as ``gt_values`` (float32, (2,)), measured on ``gt_seg_map``.

    It comes after the steps that warp or resize, so that the values are those of the image that the network sees, cut
    and zoomed as it is. A larger mask, as validation and test have it, is measured at the image's size: an outline has
    the more irregularity the finer the pixels are (five irregular ones of the challenge's have 0.047 to 0.100 at their
    own 5 to 12 Mpx, and 0.020 to 0.068 at 192 pixels). A sample without a mask, or with no lesion in it, gets none.

    Of several pieces the largest is measured: a warp fills what lies outside the frame with its reflection, and pieces
    of lesion there would span a hull over half the image.
    """

    def transform(self, results: dict) -> dict:
        """Add the values."""
        mask = results.get('gt_seg_map')
        if mask is not None:
            height, width = results['img_shape']
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)  # as the warp does
            mask = largest_component(mask)
            if mask.any():
                results['gt_values'] = np.array([diameter(mask), irregularity(mask)], dtype=np.float32)
        return results


@TRANSFORMS.register_module()
class DropInputs(BaseTransform):
    """Make inputs other than the image unknown at random, so that a network learns to do without them.

    Put it just before ``PackTaskSample``: the augmentation before it then stays as it is without.

    Args:
        prob: probability that an input is dropped, each for itself.
        all_prob: probability that all of them are, besides.
    """

    def __init__(self, prob: float = 0.1, all_prob: float = 0.2) -> None:
        if not (0 <= prob <= 1 and 0 <= all_prob <= 1):
            raise Mistake(f'prob={prob}, all_prob={all_prob} of DropInputs: give probabilities from 0 to 1')
        self.prob, self.all_prob = prob, all_prob

    def transform(self, results: dict) -> dict:
        """Replace ``inputs``."""
        known = results.get('inputs', {})
        all_go, each = np.random.uniform() < self.all_prob, np.random.uniform(size=len(known)) < self.prob
        results['inputs'] = {
            name: value for (name, value), goes in zip(known.items(), each, strict=True) if not (all_go or goes)
        }
        return results


def rotate(angle: float) -> np.ndarray:
    """The rotation (2, 2) by ``angle``, in radians."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def affine(linear: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The map ``x -> linear @ x + offset`` as (3, 3)."""
    return np.vstack([np.column_stack([linear, offset]), [0.0, 0.0, 1.0]])


def warp(image: np.ndarray, matrix: np.ndarray, size: int, interpolation: int) -> np.ndarray:
    """Resample ``image`` at the points that ``matrix`` (result to input, unit squares) says; (size, size[, C])."""
    height, width = image.shape[:2]
    to_source = matrix[:2] * [[width], [height]]  # pixel coordinates, whose integers are the pixels' centres
    to_source[:, :2] /= size
    to_source[:, 2] += 0.5 * to_source[:, :2].sum(axis=1) - 0.5
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, to_source, (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT)
