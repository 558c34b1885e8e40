"""Reading image files: size from the header, reduced-scale decoding, and detection of files that were cut off."""

import struct
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from mmskin.errors import MissingFile, Mistake

MAX_PIXELS = 50_000_000  # of an image, unless the user says otherwise
FORMATS = ('JPEG', 'PNG', 'TIFF', 'BMP', 'WEBP')  # for an EPS, Pillow would start Ghostscript; JPEG includes MPO
EXIF_ORIENTATION = 0x0112
TRANSPOSED = (5, 6, 7, 8)  # the EXIF orientations that swap width and height
REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
REDUCED[8] = cv2.IMREAD_REDUCED_COLOR_8


def read_bytes(path: str) -> bytes:
    """The whole file.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if the file ends before the end of its image.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingFile(f'{path} is missing; restore the file, or take its id out of the data set.') from error
    if is_truncated(data):
        raise Mistake(f'{path} is truncated: it ends before its image does ({len(data)} bytes); copy it again.')
    return data


class TooLargeError(Mistake):
    """An image that would take more memory than the user allows; nothing of it was decoded."""

    def __init__(self, what: str, max_pixels: int) -> None:
        super().__init__(f'{what}; at most {max_pixels / 1e6:g} million pixels are taken (--max-pixels says how many)')


def check_size(shape: tuple[int, int], max_pixels: int) -> None:
    """Compare an image's (height, width), which it states, with the limit.

    Raises:
        TooLargeError: if it has more than ``max_pixels``.
    """
    height, width = shape
    if height * width > max_pixels:
        raise TooLargeError(f'{width} x {height} pixels are {height * width / 1e6:.1f} million', max_pixels)


def most_bytes(max_pixels: int) -> int:
    """The most that an image's file takes: four channels of 16 bits, not compressed, and what describes them."""
    return 8 * max_pixels + 16_000_000


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; OpenCV's older versions paint what is missing grey without a word.

    Bytes after the end are allowed, as phones append a film. An end before the pixels is a thumbnail's.
    """
    if data[:2] == b'\xff\xd8':
        return data.find(b'\xff\xd9', scan_start(data)) < 0
    return data[:2] == b'\x89P' and data.find(b'IEND', data.find(b'IDAT')) < 0


def scan_start(data: bytes) -> int:
    """Where the pixels of a JPEG begin, behind all segments, which say how long they are (ITU-T T.81, B.1.1)."""
    at = 2
    while (at := data.find(b'\xff', at)) >= 0:
        if data[at + 1 : at + 2] == b'\xda':
            return at
        is_fill = data[at + 1 : at + 2] == b'\xff'
        at += 1 if is_fill else 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return len(data)


def open_image(data: bytes) -> Image.Image:
    """An image of which Pillow has read the head, of any size: callers compare it with a limit of their own.

    Pillow's limit is a global of the process, which is not ours to change.

    Raises:
        UnidentifiedImageError: if it is of none of the ``FORMATS``.
    """
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(data[:16]) is True:
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Image.open has it
                return factory(BytesIO(data), '')
    raise UnidentifiedImageError('no image that can be read')


def upright_size(data: bytes, path: str) -> tuple[int, int]:
    """(height, width) of the image after its EXIF orientation, from the header alone.

    Raises:
        Mistake: if the file is no image.
    """
    try:
        with open_image(data) as image:
            return upright_shape(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise unreadable(path) from error


def upright_shape(image: Image.Image) -> tuple[int, int]:
    """(height, width) of an image that was just opened, after its EXIF orientation."""
    width, height = image.size
    as_stored = image.format != 'TIFF'  # of a TIFF, Pillow gives the upright size
    return (width, height) if as_stored and exif_orientation(image) in TRANSPOSED else (height, width)


def exif_orientation(image: Image.Image) -> int:
    """How the EXIF block says that the image is turned; Pillow takes XMP's word, too, and OpenCV doesn't."""
    image.getexif()  # looks for a block at a PNG's end, too
    block = Image.Exif()
    block.load(image.info.get('exif', b''))
    return block.get(EXIF_ORIENTATION, 1)


def decode(data: bytes, flags: int, path: str) -> np.ndarray:
    """The image as OpenCV decodes it.

    Raises:
        Mistake: if it cannot be decoded.
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
