"""Reading lesion masks: one reader, which checks them as they are stored."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmskin.errors import Mistake
from mmskin.readers.images import (
    check_filled,
    check_size,
    check_whole,
    decode_deep,
    decode_plain,
    decoding,
    exif_orientation,
    is_cut_by_pillow,
    open_image,
    read_file,
    turned,
)

LESION = (1, 255, 65535)  # what a mask may hold besides 0: bits, and the whitest of 8 and of 16 bits


def read_mask(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """The mask in a file, at its own size: uint8 (H, W), 1 on the lesion and 0 off it.

    A file may have 8 or 16 bits, a palette, three equal channels, or the mask in its alpha channel alone. Its bytes are
    ``content``, where they are given.

    Raises:
        MissingFile: if the file is missing.
        Mistake: if it is truncated or no image, or holds something else than 0 and one of 1, 255 and 65535.
    """
    levels = read_levels(path, content)
    top = int(levels.max())
    lesion = (levels == top).astype(np.uint8) if top else np.zeros(levels.shape, np.uint8)
    # counting is several times faster than np.unique on a mask of 12 Mpx
    if top not in (0, *LESION) or cv2.countNonZero(lesion) != np.count_nonzero(levels):
        values = np.unique(levels)
        shown = ', '.join(map(str, values[:8])) + (', ...' if len(values) > 8 else '')
        raise Mistake(f'{path} holds the values {shown}; a mask has 0 off the lesion and 255 (or 1) on it')
    return lesion


def read_levels(path: str | Path, content: bytes | None = None) -> np.ndarray:
    """The one channel of a mask's file as it is stored, (H, W) of an integer type."""
    with decoding(str(path), 'a mask'):
        data = read_file(Path(path)) if content is None else content
        with open_image(data) as image:
            check_size((image.height, image.width), max_pixels=2**28)
            check_whole(data)
            is_deep = is_cut_by_pillow(image)  # as long as nothing is loaded
            orientation = exif_orientation(image)
            if image.mode == 'L' and image.format == 'PNG' and not image.has_transparency_data:
                return turned(decode_plain(data, cv2.IMREAD_UNCHANGED), orientation)
            if is_deep:
                return turned(one_of(decode_deep(data, image), 65535), orientation)
            check_filled(data, image)
            image.load()
            return turned(one_channel(image), orientation if image.format != 'TIFF' else 1)


def one_channel(image: Image.Image) -> np.ndarray:
    """The channel that holds the mask."""
    if image.mode == 'P' and 'transparency' not in image.info:
        colours, places = np.asarray(image.convert('RGB')), np.asarray(image)
        is_grey = (colours == colours[..., :1]).all()  # else the palette colours the classes, as labelme's does
        hides = (colours == colours[0, 0]).all() and (places != places[0, 0]).any()
        return colours[..., 0] if is_grey and not hides else places
    if image.mode in ('1', 'L', 'I', 'F') or image.mode.startswith('I;'):
        levels = np.asarray(image)
        if levels.dtype.kind == 'f':
            raise Mistake('it holds fractions; write 0 off the lesion and 255 on it')
        return levels.astype(np.uint8) if levels.dtype == bool else levels
    return one_of(np.asarray(image.convert('RGBA')), 255)


def one_of(pixels: np.ndarray, opaque: int) -> np.ndarray:
    """The channel that holds the mask, of three equal colours and maybe a transparency (H, W, 3 or 4)."""
    color = pixels[..., 0]
    if (pixels[..., 1:3] != color[..., None]).any():
        raise Mistake('its channels differ; write a mask as one channel, 0 off the lesion and 255 on it')
    if pixels.shape[2] == 3 or (pixels[..., 3] == opaque).all():
        return color
    if (color != color.flat[0]).any():
        raise Mistake('both its colours and its transparency vary; write a mask as one channel')
    return pixels[..., 3]
