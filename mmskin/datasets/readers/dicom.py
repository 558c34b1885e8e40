"""Images in DICOM files, as clinics keep them."""

from io import BytesIO

import numpy as np

from mmskin.errors import Mistake
from mmskin.optional import needs

__all__ = ['read_dicom']


def read_dicom(data: bytes) -> np.ndarray:
    """The picture in a DICOM file's bytes: uint8 or uint16, (H, W) grey or (H, W, 3) RGB.

    Colours in luminance and chroma become RGB; palettes and a grey image's rescaling and window are applied, and one
    whose low values are bright is inverted (https://dicom.nema.org/medical/dicom/current/output/html/part03.html#sect_C.7.6.3).

    Raises:
        MissingLibrary: without pydicom.
        Mistake: if the file holds more than one frame.
    """
    pydicom, pixel_data = needs('pydicom', 'dicom'), needs('pydicom.pixels', 'dicom')
    dataset = pydicom.dcmread(BytesIO(data))
    if (frames := int(dataset.get('NumberOfFrames') or 1)) > 1:
        raise Mistake(f'{frames} frames in one DICOM file; export the one to look at')
    pixels = pixel_data.pixel_array(dataset)
    if dataset.PhotometricInterpretation == 'PALETTE COLOR':
        pixels = pixel_data.apply_color_lut(pixels, dataset)
    if dataset.PhotometricInterpretation.startswith('MONOCHROME'):
        values = pixel_data.apply_modality_lut(pixels, dataset)
        return grey(pixel_data.apply_voi_lut(values, dataset), dataset)
    return pixels


def grey(values: np.ndarray, dataset: 'pydicom.Dataset') -> np.ndarray:  # type: ignore[name-defined] # noqa: F821
    """Grey values as the file's tables gave them, as uint8, bright where the picture is."""
    low, high = value_range(dataset)
    bright = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)
    if dataset.PhotometricInterpretation == 'MONOCHROME1':
        bright = 1 - bright
    return np.round(bright * 255).astype(np.uint8)


def value_range(dataset: 'pydicom.Dataset') -> tuple[float, float]:  # type: ignore[name-defined] # noqa: F821
    """The lowest and highest value that a grey pixel can have after the file's tables."""
    for table in ('VOILUTSequence', 'ModalityLUTSequence'):
        if dataset.get(table):
            return 0, 2 ** int(dataset[table][0].LUTDescriptor[2]) - 1
    count = 2 ** int(dataset.BitsStored)
    first = -count // 2 if dataset.PixelRepresentation else 0
    slope, intercept = float(dataset.get('RescaleSlope') or 1), float(dataset.get('RescaleIntercept') or 0)
    low, high = sorted(stored * slope + intercept for stored in (first, first + count - 1))
    return low, high
