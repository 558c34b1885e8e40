"""Images in DICOM files, as clinics keep them, where no part of a file is trusted to know the size of another."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from mmskin.errors import Mistake, needs
from mmskin.readers.images import TooLargeError, bytes_of, check_scans, check_size, most_bytes

if TYPE_CHECKING:
    import pydicom

PIXELS = 0x7FE00010
IMAGE = range(0x00280000, 0x00290000)  # the group that describes the picture
SEGMENTED = range(0x00281221, 0x00281224)  # palettes of a few bytes that unfold to any length
ITEM_GROUP, SEQUENCE_END, UNDEFINED = 0xFFFE, 0xFFFEE0DD, 0xFFFFFFFF
J2K = b'\xff\x4f\xff\x51'  # a JPEG 2000 begins, then its size
FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)  # markers of a JPEG
BEFORE_FRAME = (0xC4, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xF8, 0xFE)
LONG = (b'OB', b'OD', b'OF', b'OL', b'OV', b'OW', b'SQ', b'SV', b'UC', b'UN', b'UR', b'UT', b'UV')
COLOURS = ('MONOCHROME', 'PALETTE COLOR', 'RGB', 'YBR_')
MAX_ELEMENTS = 100_000  # of the head, those inside sequences included
MAX_ELEMENT = 1_000_000  # bytes, of an element that describes the picture; the largest, a table, has 131,072
STEP = 1 << 20
MIN_SPACING, MAX_SPACING = 1e-6, 1e3  # mm of a pixel; what is beyond is no scale of a picture of skin


def read_dicom(data: bytes, max_pixels: int) -> np.ndarray:
    """The picture in a DICOM file's bytes: uint8 or uint16, (H, W) grey or (H, W, 3) RGB.

    Colours in luminance and chroma become RGB; palettes and a grey image's rescaling and window are applied, and one
    whose low values are bright is inverted (https://dicom.nema.org/medical/dicom/current/output/html/part03.html#sect_C.7.6.3).
    No pixel is decoded before the head and the pixel data agree on how many there are.

    Raises:
        ModuleNotFoundError: without pydicom.
        TooLargeError: if there are more than ``max_pixels``.
        ValueError: if the file holds no picture or more than one, or contradicts itself.
    """
    pixel_data = needs('pydicom.pixels', 'dicom')
    dataset, stored, in_words = read_head(data, max_pixels)
    dataset.add_new(
        PIXELS, 'OW' if in_words or dataset.BitsAllocated > 8 else 'OB', checked(dataset, stored, max_pixels)
    )
    pixels = pixel_data.pixel_array(dataset)
    if dataset.PhotometricInterpretation == 'PALETTE COLOR':
        pixels = pixel_data.apply_color_lut(pixels, dataset)
    if dataset.PhotometricInterpretation.startswith('MONOCHROME'):
        values = pixel_data.apply_modality_lut(pixels, dataset)
        return grey(pixel_data.apply_voi_lut(values, dataset), dataset)
    is_indirect = dataset.PhotometricInterpretation == 'PALETTE COLOR'  # whose table says how white is stored
    return pixels if is_indirect else bytes_of(pixels, 2 ** int(dataset.BitsStored) - 1)


def read_spacing(data: bytes, max_pixels: int) -> tuple[float | None, bool]:
    """Millimetres of a pixel's side, and whether pixels are square, as a DICOM file's bytes say.

    The first is None unless Pixel Spacing is there and plausible, and neither it nor Pixel Aspect Ratio is of other
    pixels than square ones, to a hundredth. Pixels of which neither says anything are square (PS3.3, C.7.6.3.1.7).

    Raises:
        ModuleNotFoundError: without pydicom.
        ValueError: if the file holds no picture, or contradicts itself.
    """
    head = read_head(data, max_pixels)[0]
    pairs = {}
    for tag in ('PixelSpacing', 'PixelAspectRatio'):
        with suppress(TypeError, ValueError):  # absent, or no two numbers
            down, right = map(float, head.get(tag))
            if down > 0 and right > 0:
                pairs[tag] = down, right
    is_square = all(abs(down - right) <= 0.01 * down for down, right in pairs.values())
    spacing = pairs.get('PixelSpacing')
    if spacing is None or not is_square or not MIN_SPACING <= spacing[0] <= MAX_SPACING:
        return None, is_square
    return sum(spacing) / 2, is_square


def read_head(data: bytes, max_pixels: int) -> tuple['pydicom.Dataset', memoryview, bool]:
    """The elements that describe the picture, its pixel data as they are stored, and whether these are words (OW)."""
    pydicom = needs('pydicom', 'dicom')
    file = BytesIO(data)
    file.seek(132 if data[128:132] == b'DICM' else 4 if data[:4] == b'DICM' else 0)
    meta = pydicom.filereader.read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    syntax = meta.get('TransferSyntaxUID')
    body = memoryview(data)[file.tell() :]
    if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
        body, syntax = memoryview(inflate(body, max_pixels)), pydicom.uid.ExplicitVRLittleEndian
    implicit = body[4:6].tobytes().decode('latin-1') not in pydicom.valuerep.VR.__members__
    order = '>' if body[:1] == b'\x00' else '<'
    head, pixels, in_words = b'', None, False
    for tag, vr, element in elements(body, implicit, order):
        if tag == PIXELS:
            pixels, in_words = element, vr == b'OW'
        elif tag in IMAGE and tag not in SEGMENTED:
            if len(element) > MAX_ELEMENT:
                raise Mistake(f'DICOM element {pydicom.tag.Tag(tag)} has {len(element)} bytes')
            head += element
    if pixels is None:
        raise Mistake('a DICOM file without a picture')
    dataset = pydicom.filereader.read_dataset(BytesIO(head), implicit, order == '<')
    guess = 'ImplicitVRLittleEndian' if implicit else f'ExplicitVR{"Little" if order == "<" else "Big"}Endian'
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax or getattr(pydicom.uid, guess)
    return dataset, pixels, in_words


def inflate(body: memoryview, max_pixels: int) -> bytes:
    """What was deflated; it is measured first, so that a bomb costs no memory."""
    most = most_bytes(max_pixels)
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for start in range(0, len(body), STEP):
        waiting: memoryview | bytes = body[start : start + STEP]
        while waiting:
            size += len(inflater.decompress(waiting, STEP))
            waiting = inflater.unconsumed_tail
            if size > most:
                raise TooLargeError(f'a deflated DICOM file of more than {most / 1e6:.0f} MB', max_pixels)
    return zlib.decompress(body, -zlib.MAX_WBITS, size + 1)


def elements(body: memoryview, implicit: bool, order: str) -> Iterator[tuple[int, bytes, memoryview]]:
    """Tag, representation and bytes of each element that is in no sequence, at last the pixel data without their head.

    Pydicom makes objects of all that it reads, of an empty item more than a hundred times its bytes.
    """
    at, start, top = 0, 0, 0
    outer: list[tuple[bool, bool]] = []  # what held outside of each sequence of undefined length
    fragments = False
    for _ in range(MAX_ELEMENTS):
        if at + 12 > len(body):
            return
        group, number, vr, short = struct.unpack_from(f'{order}HH2sH', body, at)
        is_item, tag = group == ITEM_GROUP, group << 16 | number
        if not outer:
            start, top = at, tag
        at += 12 if vr in LONG and not (is_item or implicit) else 8
        length = struct.unpack_from(f'{order}I', body, at - 4)[0] if is_item or implicit or vr in LONG else short
        if top == PIXELS:
            if length != UNDEFINED and at + length > len(body):
                raise Mistake(f'truncated: of {length} bytes of pixel data {len(body) - at} are there; copy it again')
            yield tag, vr, body[at:] if length == UNDEFINED else body[at : at + length]
            return
        if tag == SEQUENCE_END and outer:
            implicit, fragments = outer.pop()
        elif is_item:
            at += length if fragments else 0  # the inside of other items is gone through
        elif length == UNDEFINED:
            outer.append((implicit, fragments))
            implicit, fragments = implicit or vr == b'UN', vr in (b'OB', b'OW')  # PS3.5, 6.2.2 and A.4
        else:
            at += length
        if not outer:
            yield top, vr, body[start:at]
    raise Mistake(f'a DICOM header of more than {MAX_ELEMENTS} elements')


def checked(dataset: 'pydicom.Dataset', pixels: memoryview, max_pixels: int) -> bytes:
    """The pixel data, once they are known to be as large as the header says; what is compressed, in one piece."""
    encaps, pixel_data = needs('pydicom.encaps', 'dicom'), needs('pydicom.pixels.utils', 'dicom')
    if (frames := int(dataset.get('NumberOfFrames') or 1)) != 1:
        raise Mistake(f'{frames} frames in one DICOM file; export the one to look at')
    height, width, channels = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    if channels not in (1, 3) or not str(dataset.PhotometricInterpretation).startswith(COLOURS):
        raise Mistake(f'{channels} channels of {dataset.PhotometricInterpretation}; export it as RGB')
    if dataset.get('PixelRepresentation') and not str(dataset.PhotometricInterpretation).startswith('MONOCHROME'):
        raise Mistake(
            f'signed values of {dataset.PhotometricInterpretation}, which DICOM defines as unsigned; export it again'
        )
    check_size((height, width), max_pixels)
    depth = channels * max(1, int(dataset.BitsAllocated) // 8)
    stored, highest = int(dataset.BitsStored), int(dataset.get('HighBit', dataset.BitsStored - 1))
    if stored < int(dataset.BitsAllocated) and highest != stored - 1:  # pydicom would take the lower ones
        raise Mistake(f'{stored} bits a pixel below bit {highest}, which DICOM has retired; export it again')
    if height * width * depth > most_bytes(max_pixels):
        raise TooLargeError(f'{width} x {height} pixels of {depth} bytes', max_pixels)
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        if dataset.PhotometricInterpretation in ('YBR_ICT', 'YBR_RCT'):  # which pydicom would take for RGB
            raise Mistake(
                f'{dataset.PhotometricInterpretation} is of JPEG 2000, and it is not compressed; export it again'
            )
        expected = pixel_data.get_expected_length(dataset)
        if not expected <= len(pixels) <= expected + width * depth:  # some pad to whole blocks
            raise Mistake(f'{width} x {height} pixels take {expected} bytes, but it holds {len(pixels)}')
        return bytes(pixels)
    table = 8 + int.from_bytes(pixels[4:8], 'little')  # of offsets: one frame needs none
    frame = b''.join(encaps.generate_fragments(bytes(pixels[table:])))
    if syntax == needs('pydicom.uid', 'dicom').RLELossless:
        check_runs(frame, height * width)
    else:
        if frame[4:8] == b'jP  ':  # a JPEG 2000 file, where there should be its codestream alone
            frame = frame[frame.find(b'jp2c' + J2K) + 4 :]
        if (shape := codestream_shape(frame)) != (height, width, channels):
            raise Mistake(
                f'its header says {width} x {height} pixels of {channels} channels, '
                f'but its pixel data say {shape[1]} x {shape[0]} of {shape[2]}'
            )
        if frame[:2] == b'\xff\xd8':
            check_scans(frame)
    return encaps.encapsulate([frame], has_bot=False)


def check_runs(frame: bytes, area: int) -> None:
    """Go through the runs of an RLE frame without unpacking them (PS3.5, annex G)."""
    count, *starts = struct.unpack_from('<16I', frame)
    for start, end in zip(starts[:count], [*starts[1:count], len(frame)], strict=True):
        at, size = start, 0
        while at < min(end, len(frame)):
            run = frame[at]
            size += 1 + run if run < 128 else 257 - run if run > 128 else 0
            at += 2 + run if run < 128 else 2 if run > 128 else 1
            if size > area + 128:
                raise Mistake(f'its pixel data unpack to more than the {area} pixels of its header')


def codestream_shape(frame: bytes) -> tuple[int, int, int]:
    """Height, width and channels as the head of a JPEG, JPEG-LS or JPEG 2000 has them.

    Strictly read: where one decoder might skip what another takes for the size, there is none.
    """
    if frame[:4] == J2K and len(frame) >= 42:  # ISO/IEC 15444-1, A.5.1
        right, bottom, left, top = struct.unpack_from('>4I', frame, 8)
        return bottom - top, right - left, int.from_bytes(frame[40:42], 'big')
    at = 2 if frame[:2] == b'\xff\xd8' else len(frame)
    while at + 10 <= len(frame) and frame[at] == 0xFF:  # ITU-T T.81, B.2.2, and T.87, C.2.2
        marker = frame[at + 1]
        if marker in FRAMES:
            return *struct.unpack_from('>HH', frame, at + 5), frame[at + 9]
        if marker != 0xFF and marker not in BEFORE_FRAME:
            break
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], 'big')
    raise Mistake('compressed pixel data that do not begin with their size')


def grey(values: np.ndarray, dataset: 'pydicom.Dataset') -> np.ndarray:
    """Grey values as the file's tables gave them, as uint8, bright where the picture is."""
    tables = [dataset[name][0] for name in ('VOILUTSequence', 'ModalityLUTSequence') if dataset.get(name)]
    if tables:
        low, high = 0.0, 2.0 ** int(tables[0].LUTDescriptor[2]) - 1
    else:
        count = 2 ** int(dataset.BitsStored)
        first = -count // 2 if dataset.PixelRepresentation else 0
        slope, intercept = dataset.get('RescaleSlope'), dataset.get('RescaleIntercept')
        if slope is None or intercept is None:  # as pydicom has it
            slope, intercept = 1, 0
        low, high = sorted(stored * float(slope) + float(intercept) for stored in (first, first + count - 1))
    bright = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1) if high > low else np.array(np.nan)
    if not np.isfinite(bright).all():
        raise Mistake('its window or rescaling leaves no grey values')
    if dataset.PhotometricInterpretation == 'MONOCHROME1':
        bright = 1 - bright
    return np.round(bright * 255).astype(np.uint8)
