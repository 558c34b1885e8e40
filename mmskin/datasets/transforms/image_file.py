"""Reading image files: size from the header, reduced-scale decoding, and detection of files that were cut off."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

EXIF_ORIENTATION = 0x0112
TRANSPOSED = (5, 6, 7, 8)  # the EXIF orientations that swap width and height
# By a file's first bytes: the marks of a part of its pixels, and of its end.
END_MARKS = {b'\xff\xd8': (b'\xff\xda', b'\xff\xd9'), b'\x89P': (b'IDAT', b'IEND')}
REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
REDUCED[8] = cv2.IMREAD_REDUCED_COLOR_8


def read_bytes(path: str) -> bytes:
    """The whole file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file ends before the end of its image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path} is missing; restore the file, or take its id out of the data set.') from error
    if is_truncated(data):
        raise ValueError(f'{path} is truncated: it ends before its image does ({len(data)} bytes); copy it again.')
    return data


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; OpenCV's older versions paint what is missing grey without a word.

    Bytes after the end are allowed. An end with pixels after it is a thumbnail's.
    """
    if data[:2] not in END_MARKS:
        return False
    pixels, end = END_MARKS[data[:2]]
    end_at = data.rfind(end)
    return end_at < 0 or data.find(pixels, end_at) >= 0


def upright_size(data: bytes, path: str) -> tuple[int, int]:
    """(height, width) of the image after its EXIF orientation, from the header alone.

    Raises:
        ValueError: if the file is no image.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            width, height = image.size
            orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise unreadable(path) from error
    return (width, height) if orientation in TRANSPOSED else (height, width)


def decode(data: bytes, flags: int, path: str) -> np.ndarray:
    """The image as OpenCV decodes it.

    Raises:
        ValueError: if it cannot be decoded.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise unreadable(path)
    return image


def decode_rgb(data: bytes, scale: int, path: str) -> np.ndarray:
    """The image as upright RGB, uint8 (h, w, 3), ``scale`` (1, 2, 4 or 8) times smaller than the file's."""
    return cv2.cvtColor(decode(data, REDUCED[scale], path), cv2.COLOR_BGR2RGB)


def reduction(shape: tuple[int, int], min_size: float) -> int:
    """The largest of 8, 4, 2 and 1 by which ``shape`` can be divided with neither side falling below ``min_size``."""
    return next((scale for scale in (8, 4, 2) if min(shape) // scale >= min_size), 1)


def unreadable(path: str) -> ValueError:
    """The error for a file that is no readable image."""
    return ValueError(f'{path} is not a readable image; copy it again, or take its id out of the data set.')
