"""Reading images: one reader for files of any kind, bytes, arrays and PIL images."""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mmskin.errors import MissingFile, MissingLibrary, Mistake, in_one_line
from mmskin.files import refuse_device

MAX_PIXELS = 50_000_000  # of an image, unless the user says otherwise
FORMATS = ('JPEG', 'PNG', 'TIFF', 'BMP', 'WEBP')  # for an EPS, Pillow would start Ghostscript; JPEG includes MPO
IMAGE_FILES = ('.bmp', '.dcm', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')  # how their names end
REDUCIBLE = ('JPEG', 'MPO', 'PNG')  # MPO is a JPEG with a preview, as phones write it
PIXEL_CHUNKS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')  # a PNG's others only describe it
# bytes of those that say if it moves or is turned; 0: of any length
NOTE_CHUNKS = {b'acTL': 8, b'fcTL': 26, b'eXIf': 0}
# likewise of a JPEG's segments, by marker: how they begin, and at least how many bytes they have
DECIDING = {0xE0: (b'JFIF\0', 14), 0xE1: (b'Exif\0', 6), 0xE2: (b'MPF\0', 4), 0xEE: (b'Adobe', 12)}
REDUCED = {1: cv2.IMREAD_COLOR, **{scale: getattr(cv2, f'IMREAD_REDUCED_COLOR_{scale}') for scale in (2, 4, 8)}}
RESTARTS = re.compile(rb'\xff([\xd0-\xd7])')  # marks between the data of a JPEG, which take turns
SCAN_END = re.compile(rb'\xff([^\0\xd0-\xd7\xff])')
MAX_SCANS = 100  # of a JPEG, as libtiff has it; writers make about ten
EXIF_ORIENTATION = 0x0112
DEPTHS = {'1': 1, 'L;2': 2, 'L;4': 4}  # bits of a PNG's grey, by how Pillow unpacks it
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_CHANNELS = 258, 262, 277
TIFF_PLANES, TIFF_EXTRA, TIFF_SIGN = 284, 338, 339
COLOURS_OF_TIFF = {0: 1, 1: 1, 3: 1, 4: 1, 5: 4}  # channels of grey, palettes, masks and CMYK by photometric; else 3
WITHOUT_PREAMBLE = re.compile(rb'[\x02\x08]\x00.\x00([A-Z]{2}|..\x00\x00)|\x00\x08\x00.[A-Z]{2}|DICM', re.DOTALL)


def read_image(
    content: Path | bytes | np.ndarray | Image.Image,
    min_size: float | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str = '',
) -> tuple[np.ndarray, tuple[int, int]]:
    """The image as upright RGB, and its size before any reduction.

    Grey is repeated, and transparency laid over white. Of 16 bits the whole range is scaled to 8, see ``bytes_of``.
    Arrays are RGB, not BGR. EXIF's orientation is applied; a damaged block is ignored. What would lose a channel, a
    page or a part of the range is refused, so that training and prediction see one image.

    Args:
        content: A file, its bytes, an array or a PIL image.
        min_size: A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as no side falls below this; a PNG is
            shrunk to the same size.
        max_pixels: The most that a file or its bytes may hold, known before any pixel is decoded.
        name: What errors call it; the file's path by default.

    Returns:
        uint8 (h, w, 3), and (H, W).

    Raises:
        MissingFile: if the file is missing.
        Mistake: if it is truncated, no image, or has too many pixels or bytes; the message begins with the name.
        MissingLibrary: for DICOM without pydicom.
    """
    name = name or (str(content) if isinstance(content, Path) else 'the image')
    with decoding(name, 'an image'):
        if isinstance(content, np.ndarray | Image.Image):
            rgb = rgb_of_array(content) if isinstance(content, np.ndarray) else rgb_of_pil(content)
            return rgb, rgb.shape[:2]
        data = read_file(content, max_pixels) if isinstance(content, Path) else content
        if is_dicom(data):
            from mmskin.readers.dicom import read_dicom  # which counts its pixels by what is here

            rgb = rgb_of_array(read_dicom(data, max_pixels))
            return rgb, rgb.shape[:2]
        with open_image(data) as image:
            check_size((image.height, image.width), max_pixels)
            check_whole(data)
            is_deep = is_cut_by_pillow(image)
            is_plain = image.mode in ('RGB', 'L') and not image.has_transparency_data
            if is_deep or not is_plain or image.format not in REDUCIBLE:
                check_filled(data, image)
                rgb = rgb_of_deep(data, image) if is_deep else rgb_of_pil(image)
                return rgb, rgb.shape[:2]
            orientation = exif_orientation(image)
            shape = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
            scale = next((scale for scale in (8, 4, 2) if min_size and min(shape) // scale >= min_size), 1)
            if image.format != 'PNG':  # of a damaged JPEG, OpenCV paints grey what it cannot decode
                image.draft('RGB', (image.width // scale, image.height // scale))
                check_filled(data, image, scale)
                return turned(np.array(image.convert('RGB')), orientation), shape
        bgr = decode_plain(data, REDUCED[scale])
        return cv2.cvtColor(turned(bgr, orientation), cv2.COLOR_BGR2RGB), shape


@contextmanager
def decoding(name: str, kind: str) -> Iterator[None]:
    """Let what goes wrong with a file be a ``Mistake`` that begins with its name; ``kind`` is what it should hold."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFile(f'{name}: no such file') from error
    except IsADirectoryError as error:
        raise Mistake(f'{name}: a folder, not {kind}') from error
    except MissingLibrary as error:
        raise MissingLibrary(f'{name}: {error}', name=error.name) from error
    except Mistake as error:
        raise Mistake(str(error) if str(error).startswith(f'{name}: ') else f'{name}: {error}') from error
    except UnidentifiedImageError as error:
        raise Mistake(f'{name}: not {kind} that can be read; convert it to PNG') from error
    except Exception as error:  # decoders raise whatever they like
        refused = error.strerror if isinstance(error, OSError) and error.filename else None
        raise Mistake(f'{name}: {refused or f"not {kind} that can be read ({in_one_line(error)})"}') from error


def read_file(path: Path, max_pixels: int = MAX_PIXELS) -> bytes:
    """A file's bytes, unless there are more than an image of ``max_pixels`` can take."""
    refuse_device(path)
    most = most_bytes(max_pixels)
    with path.open('rb') as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise TooLargeError(f'a file of more than {most / 1e6:.0f} MB', max_pixels)
    return data


def is_dicom(data: bytes) -> bool:
    """Whether this is a DICOM file, with its preamble, or without as some archives hand them out."""
    return data[128:132] == b'DICM' or WITHOUT_PREAMBLE.match(data) is not None


def open_image(data: bytes) -> Image.Image:
    """An image of which Pillow has read the head, of any size: callers compare it with a limit of their own.

    Pillow's limit is a global of the process, which is not ours to change. It sees a file ``without_notes``, over which
    it would stumble where they are damaged.

    Raises:
        UnidentifiedImageError: if it is of none of the ``FORMATS``.
        Mistake: if it holds several images, or channels of which nothing says what they are.
    """
    Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(data[:16]) is True:
            with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as Image.open has it
                image = factory(BytesIO(without_notes(data)), '')
                check_one_image(image)
                if name == 'PNG' and isinstance(image.info.get('transparency'), int):  # Pillow leaves it as stored
                    depth = DEPTHS.get(str(image.tile[0][3]), 8) if image.tile else 8
                    image.info['transparency'] *= 255 // (2**depth - 1) if depth < 8 else 1
                return image
            if name == 'TIFF':
                advice = 'save it as one page, grey or RGB, of 8 or 16 bits a channel'
                raise Mistake(f'an unsupported kind of TIFF; {advice}')
    raise UnidentifiedImageError('no image that can be read')


def without_notes(data: bytes) -> bytes:
    """The file of a JPEG or PNG without what changes neither pixels nor orientation; any other as it is.

    Those are profiles, comments, resolutions and the like, and what is too short for its kind. A PNG's EXIF block comes
    before its pixels, so that nobody has to decode these to find it.
    """
    kept: list[bytes] = []
    at = 0
    if data[:2] == b'\x89P':
        at, kind = 8, b''
        while at + 12 <= len(data) and kind != b'IEND':
            length, kind = struct.unpack_from('>I4s', data, at)
            chunk, at = data[at : at + 12 + length], at + 12 + length
            may_tell = NOTE_CHUNKS.get(kind, -1) in (0, length)
            if kind in PIXEL_CHUNKS or (may_tell and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], 'big')):
                kept.insert(1, chunk) if kind == b'eXIf' and kept else kept.append(chunk)
        return b''.join([data[:8], *kept, data[at:]])
    if data[:2] == b'\xff\xd8':
        at = 2
        while data[at : at + 1] == b'\xff' and data[at + 1 : at + 2] != b'\xda' and at + 4 <= len(data):
            marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
            if marker == 0xFF:  # which fills
                end = at + 1
            start, shortest = DECIDING.get(marker, (b'', 0))
            is_note = 0xE0 <= marker <= 0xEF or marker == 0xFE
            if not is_note or (start and data[at + 4 : end].startswith(start) and end - at - 4 >= shortest):
                kept.append(data[at:end])
            at = end
    return b''.join([data[:2], *kept, data[at:]]) if at else data


def check_one_image(image: Image.Image) -> None:
    """Make sure that reading a file's image leaves nothing of it out, but for the preview of a phone's JPEG."""
    if getattr(image, 'is_animated', False) and image.format != 'MPO':
        raise Mistake('it holds several pages or frames; save the one to look at as a file of its own')
    if isinstance(image, TiffImageFile):
        if image.tag_v2.get(TIFF_PHOTOMETRIC) == 0 and max(image.tag_v2.get(TIFF_BITS, (1,))) > 8:
            # Pillow inverts those of 8
            raise Mistake('a TIFF of more than 8 bits in which white is 0; write it with black at 0')
        channels = image.tag_v2.get(TIFF_CHANNELS, 1)
        colours = COLOURS_OF_TIFF.get(image.tag_v2.get(TIFF_PHOTOMETRIC, 1), 3)
        further = image.tag_v2.get(TIFF_EXTRA, ())
        if channels > colours + 1 or (channels == colours + 1 and further not in ((1,), (2,))):
            raise Mistake(
                f'it has {channels} channels, and does not say that the last is transparency; '
                f'write {"grey" if colours == 1 else "RGB"} alone'
            )


def is_cut_by_pillow(image: Image.Image) -> bool:
    """Whether the file has more than 8 bits a channel, and several channels: Pillow keeps the upper 8 of them."""
    if image.mode.startswith('I') or image.mode == 'F':
        return False
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(TIFF_BITS, (1,))) > 8
    return image.format == 'PNG' and any('16' in str(tile[3]) for tile in getattr(image, 'tile', ()))


def rgb_of_deep(data: bytes, image: Image.Image) -> np.ndarray:
    """Upright RGB, uint8 (H, W, 3), of a file with several channels of 16 bits, whose head is in ``image``."""
    pixels = decode_deep(data, image)
    rgb, orientation = pixels[..., 2::-1], exif_orientation(image)
    white = white_of(rgb)
    if pixels.shape[2] == 3:
        return turned(bytes_of(rgb, white), orientation)
    opacity = np.minimum(pixels[..., 3:].astype(np.float32) / white, 1)
    is_weighted = isinstance(image, TiffImageFile) and image.tag_v2.get(TIFF_EXTRA) == (1,)
    shown = rgb.astype(np.float32) / white * (1 if is_weighted else opacity) + 1 - opacity
    return turned(np.round(255 * shown.clip(0, 1)).astype(np.uint8), orientation)


def decode_deep(data: bytes, image: Image.Image) -> np.ndarray:
    """All channels of 16 bits as they are stored, uint16 (H, W, 3 or 4), BGR.

    Raises:
        Mistake: if they are no RGB, of another depth, or in planes, which OpenCV mistakes for pixels.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    if tags.get(TIFF_PHOTOMETRIC, 2) != 2 or {*tags.get(TIFF_BITS, (16,))} != {16} or tags.get(TIFF_PLANES, 1) != 1:
        raise Mistake(
            f'more than 8 bits a channel of {image.mode}, of an unsupported kind; save it as RGB, pixel by pixel'
        )
    pixels = decode_plain(data, cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint16 and pixels.ndim == 3, 'of one channel, Pillow keeps all bits'
    return pixels


def decode_plain(data: bytes, flags: int) -> np.ndarray:
    """The pixels as OpenCV decodes them, as they are stored: not turned."""
    image = cv2.imdecode(np.frombuffer(without_notes(data), np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UnidentifiedImageError('no image that can be read')
    return image


def check_whole(data: bytes) -> None:
    """Make sure that a JPEG or PNG has its end, and a PNG the pixels that its checksums are of.

    OpenCV's older versions paint what is missing grey without a word, and Pillow checks no pixels of a PNG. Bytes after
    the end are allowed, as phones append a film. An end before the pixels is a thumbnail's: the segments of a JPEG,
    which say how long they are (ITU-T T.81, B.1.1), are passed over.
    """
    end = 0
    if data[:2] == b'\x89P':
        end, view = -1, memoryview(data)
        at = 8
        while end < 0 and at + 12 <= len(data):
            length, kind = struct.unpack_from('>I4s', data, at)
            body, at = view[at + 4 : at + 8 + length], at + 12 + length
            is_checked = kind in PIXEL_CHUNKS and at <= len(data)
            if is_checked and zlib.crc32(body) != int.from_bytes(view[at - 4 : at], 'big'):
                raise Mistake(f'damaged: the checksum of its {kind.decode()} is wrong; copy it again')
            end = at if kind == b'IEND' else -1
    elif data[:2] == b'\xff\xd8':
        check_scans(data)
        end = data.find(b'\xff\xd9', start_of_scan(data))
    if end < 0:
        raise Mistake(f'truncated: it ends before its image does ({len(data)} bytes); copy it again')


def check_scans(data: bytes) -> None:
    """Make sure that a JPEG goes over its pixels no more often than writers do: two bytes can be a scan of millions."""
    at, scans = 2, 0
    while (mark := SCAN_END.search(data, at)) and mark[1] != b'\xd9':
        at = mark.end()
        if mark[1] != b'\x01':  # which has no length
            at += int.from_bytes(data[at : at + 2], 'big')
        scans += mark[1] == b'\xda'
        if scans > MAX_SCANS:
            raise Mistake(f'it draws its pixels in more than {MAX_SCANS} scans, which takes hours; save it again')


def start_of_scan(data: bytes) -> int:
    """Where the mark is after which a JPEG's pixels come; its length where there is none."""
    at = 2
    while (at := data.find(b'\xff', at)) >= 0 and data[at + 1 : at + 2] != b'\xda':
        is_fill = data[at + 1 : at + 2] == b'\xff'
        at += 1 if is_fill else 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return at if at >= 0 else len(data)


def check_filled(data: bytes, image: Image.Image, scale: int = 1) -> None:
    """Make sure that the data of a JPEG or PNG reach to the last pixel of the size in its header.

    Of a PNG, Pillow leaves the rest black without a word, and OpenCV refuses it. Of a JPEG, both paint it grey: where
    the last pixel is that grey, the image is decoded once more with bytes behind the data of its first scan, which
    change a picture only if there were too few. ``image`` is what Pillow opened, drafted at 1 / ``scale``.
    """
    if image.format == 'PNG' and not is_cut_by_pillow(image):
        decode_plain(data, cv2.IMREAD_GRAYSCALE)
    if image.format not in ('JPEG', 'MPO'):
        return
    image.load()
    last_pixel = np.ravel(np.asarray(image.getpixel((image.width - 1, image.height - 1))))
    if not {*last_pixel} <= {127, 128}:  # CMYK is inverted
        return
    start, some = start_of_scan(data), bytes([*range(1, 200)])
    mark = SCAN_END.search(data, start + 2)
    end = mark.start() if mark else len(data)
    last = int.from_bytes((RESTARTS.findall(data, start, end) or [b'\xd7'])[-1], 'big')
    behind = b''.join(some + bytes([0xFF, 0xD0 | (last + number) & 7]) for number in range(1, 9))
    with open_image(data[:end] + behind + data[end:]) as other:
        if scale > 1:
            other.draft(image.mode, (other.width // scale, other.height // scale))
        other.load()
        if other.tobytes() != image.tobytes():
            raise Mistake('damaged: its data end before the pixels that its header claims; copy it again')


def exif_orientation(image: Image.Image) -> int:
    """How the EXIF block says that the image is turned, from 1 to 8; 1 if it says nothing, or nonsense.

    Pillow takes XMP's word, too, which few viewers do.
    """
    try:
        block = Image.Exif()
        block.load(image.info.get('exif', b''))
        orientation = block.get(EXIF_ORIENTATION, 1)
    except Exception:  # of a damaged block Pillow raises whatever it stumbles over
        return 1
    return orientation if orientation in range(1, 9) else 1


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, ...) as ``orientation`` says that they are to be seen.

    EXIF 2.3, tag 0x0112: 3, 6 and 8 are turned by 180, 90 and 270 degrees clockwise, the even others are mirrored.
    """
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    quarters = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)  # counter-clockwise, after mirroring
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if orientation != 1 else pixels


def rgb_of_pil(image: Image.Image) -> np.ndarray:
    """Any PIL image as upright RGB, uint8 (H, W, 3)."""
    if 0 in image.size:
        raise Mistake(f'an image of {image.width} x {image.height} pixels shows nothing')
    if is_cut_by_pillow(image):
        raise Mistake('Pillow cuts its 16 bits a channel to 8; give the file, or an array of uint16')
    image.load()  # a TIFF is turned as it is loaded, and its orientation then forgotten
    orientation = exif_orientation(image)
    is_signed = isinstance(image, TiffImageFile) and image.tag_v2.get(TIFF_SIGN, (1,))[0] == 2
    if image.mode.startswith('I') or image.mode == 'F' or (image.mode == 'L' and is_signed):
        levels, white = np.asarray(image), None
        if isinstance(image, TiffImageFile):
            bits = image.tag_v2.get(TIFF_BITS, (16,))[0]
            if is_signed and bits in (8, 16):  # which Pillow takes for unsigned ones
                levels = levels.astype(f'i{bits // 8}')
            white = 2**bits - 1 if bits < 16 else None
        rgb = rgb_of_array(levels, white)
        if 'transparency' in image.info:
            rgb[levels == image.info['transparency']] = 255
        return turned(rgb, orientation)
    if image.mode == 'LAB':
        profiles = ImageCms.createProfile('LAB'), ImageCms.createProfile('sRGB')
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, 'LAB', 'RGB'))
        assert converted is not None, 'it is not in place'
        image = converted
    if image.has_transparency_data:
        colours = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', colours.size, 'white'), colours)
    return turned(np.asarray(image.convert('RGB')), orientation)


def rgb_of_array(array: np.ndarray, white: int | None = None) -> np.ndarray:
    """An array (H, W), or (H, W, 1, 3 or 4) as RGB, uint8 (H, W, 3); a fourth channel is transparency.

    Integers are grey levels of 8 bits, or of 16 if any exceeds 255; floats run from 0 to 1.

    Args:
        array: Its values as they are stored.
        white: The whitest value that integers can have, where the file says so.
    """
    if np.ma.is_masked(array):
        raise Mistake('a masked array: what lies under its mask is unknown; fill it first')
    array = np.asarray(array)  # of a subclass, rounding and reshaping may mean something else
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else None
    if channels not in (1, 3, 4) or not array.size:
        raise Mistake(f'an array of shape {array.shape} is not an image; give (H, W) or (H, W, 3), RGB')
    low, high = array.min(), array.max()
    if array.dtype == np.uint8:
        levels = array
    elif array.dtype.kind in 'iu' and low >= 0 and high <= 65535:
        levels = bytes_of(array, white or white_of(array[..., :3] if channels == 4 else array))
    elif array.dtype.kind in 'fb' and low >= 0 and high <= 1:
        levels = np.round(array.astype(np.float32) * 255).astype(np.uint8)
    else:
        raise Mistake(
            f'values of type {array.dtype} from {low} to {high} are not grey levels; give 0 to 255 (uint8), '
            '0 to 65535 (uint16), or 0 to 1 (float)'
        )
    if channels == 1:
        return np.repeat(levels.reshape(*array.shape[:2], 1), 3, axis=2)
    return levels if channels == 3 else rgb_of_pil(Image.fromarray(levels))


def bytes_of(levels: np.ndarray, white: int) -> np.ndarray:
    """Integers from 0 to ``white`` as uint8 from 0 to 255, rounded: the whole range is kept."""
    if white == 255:
        return levels.clip(0, 255).astype(np.uint8)
    table = np.round(np.arange(65536) * (255 / white)).clip(0, 255).astype(np.uint8)
    return table[levels]


def white_of(levels: np.ndarray) -> int:
    """The value that stands for white: 255 where 8 bits are stored as more, or else 65535 (32767 of signed 16 bits)."""
    high, white = int(levels.max()), 32767 if levels.dtype == np.int16 else 65535
    if 255 < high <= white // 4:
        raise Mistake(
            f'its brightest value is {high} of {white}, so it may hold fewer than 16 bits, and nothing says how many; '
            f'scale its values to 0 to {white}, or to 8 bits'
        )
    return 255 if high <= 255 else white


class TooLargeError(Mistake):
    """An image that would take more memory than the user allows; nothing of it was decoded."""

    def __init__(self, what: str, max_pixels: int) -> None:
        super().__init__(
            f'{what}; at most {max_pixels / 1e6:g} million pixels are accepted '
            '(set --max-pixels, or max_pixels of LoadImage)'
        )


def check_size(shape: tuple[int, int], max_pixels: int) -> None:
    """Compare an image's (height, width), which it states, with the limit."""
    height, width = shape
    if height * width > max_pixels:
        raise TooLargeError(f'{width} x {height} pixels are {height * width / 1e6:.1f} million', max_pixels)


def most_bytes(max_pixels: int) -> int:
    """The most that an image's file takes: four channels of 16 bits, not compressed, and what describes them."""
    return 8 * max_pixels + 16_000_000
