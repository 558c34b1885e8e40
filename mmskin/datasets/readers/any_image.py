"""Images as people have them: files of many kinds, bytes, arrays, PIL images, DICOM."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmskin.datasets.readers.dicom import is_dicom, read_dicom
from mmskin.datasets.readers.image_file import (
    MAX_PIXELS,
    TooLargeError,
    check_size,
    decode_rgb,
    exif_orientation,
    is_truncated,
    most_bytes,
    open_image,
    reduction,
    upright_shape,
)
from mmskin.errors import Mistake

__all__ = ['read_image']

REDUCIBLE = ('JPEG', 'MPO', 'PNG')  # what the networks learn from; MPO is a JPEG with a preview, as phones write it


def read_image(
    content: Path | bytes | np.ndarray | Image.Image, min_size: float | None = None, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, tuple[int, int]]:
    """The image as upright RGB, and its size before any reduction.

    Grey is repeated, transparency laid over white, and 16 bits are cut to the upper 8. Arrays are RGB, not BGR.

    Args:
        content: A file, its bytes, an array or a PIL image.
        min_size: A JPEG or PNG may come reduced by 2, 4 or 8 in pixels, as long as no side falls below this. The pixels
            are then those that ``LoadImage`` gives.
        max_pixels: The most that a file or its bytes may hold, known before any pixel is decoded.

    Returns:
        uint8 (h, w, 3), and (H, W).

    Raises:
        FileNotFoundError: if the file is missing.
        TooLargeError: if it has too many pixels, or bytes.
        ValueError: if it is truncated or no image; a decoder may raise errors of its own.
        ModuleNotFoundError: for DICOM without pydicom.
    """
    if isinstance(content, np.ndarray | Image.Image):
        rgb = rgb_of_array(content) if isinstance(content, np.ndarray) else rgb_of_pil(content)
        return rgb, rgb.shape[:2]
    if isinstance(content, Path):
        most = most_bytes(max_pixels)
        with content.open('rb') as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise TooLargeError(f'a file of more than {most / 1e6:.0f} MB', max_pixels)
    else:
        data = content
    if is_dicom(data):
        rgb = rgb_of_array(read_dicom(data, max_pixels))
        return rgb, rgb.shape[:2]
    return read_encoded(data, min_size, max_pixels)


def read_encoded(data: bytes, min_size: float | None, max_pixels: int) -> tuple[np.ndarray, tuple[int, int]]:
    """As ``read_image``, from the bytes of an image file."""
    with open_image(data) as image:
        check_size((image.height, image.width), max_pixels)
        if is_truncated(data):
            raise Mistake(f'truncated: it ends before its image does ({len(data)} bytes); copy it again')
        if image.format not in REDUCIBLE or image.mode not in ('RGB', 'L') or image.has_transparency_data:
            rgb = rgb_of_pil(image)
            return rgb, rgb.shape[:2]
        shape = upright_shape(image)
    return decode_rgb(data, reduction(shape, min_size) if min_size else 1, 'it'), shape


def rgb_of_pil(image: Image.Image) -> np.ndarray:
    """Any PIL image as upright RGB, uint8 (H, W, 3)."""
    image.load()  # a TIFF is turned as it is loaded, and its orientation then forgotten
    upright = ImageOps.exif_transpose(image) if exif_orientation(image) != 1 else image
    if upright.mode.startswith('I') or upright.mode == 'F':
        return rgb_of_array(np.asarray(upright))
    if not upright.has_transparency_data:
        return np.asarray(upright.convert('RGB'))
    colours = upright.convert('RGBA')
    return np.asarray(Image.alpha_composite(Image.new('RGBA', colours.size, 'white'), colours).convert('RGB'))


def rgb_of_array(array: np.ndarray) -> np.ndarray:
    """An array (H, W), or (H, W, 1, 3 or 4) as RGB, uint8 (H, W, 3).

    Raises:
        Mistake: if it is of another shape, or its values are no grey levels.
    """
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else None
    if channels not in (1, 3, 4) or not array.size:
        raise Mistake(f'an array of shape {array.shape} is no image; give (H, W) or (H, W, 3), RGB')
    levels = grey_levels(array)
    if channels == 1:
        return np.repeat(levels.reshape(*array.shape[:2], 1), 3, axis=2)
    return levels if channels == 3 else rgb_of_pil(Image.fromarray(levels))


def grey_levels(array: np.ndarray) -> np.ndarray:
    """The array as uint8: of 16 bits the upper 8, of numbers from 0 to 1 their 255-fold."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    low, high = array.min(), array.max()
    if array.dtype.kind in 'iu' and low >= 0 and high <= 65535:
        return (array if high <= 255 else array >> 8).astype(np.uint8)
    if array.dtype.kind in 'fb' and low >= 0 and high <= 1:
        return np.round(array.astype(np.float32) * 255).astype(np.uint8)
    raise Mistake(
        f'values of type {array.dtype} from {low} to {high} are no grey levels; give 0 to 255 (uint8), '
        '0 to 65535 (uint16), or 0 to 1 (float)'
    )
