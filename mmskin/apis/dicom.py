"""Images in DICOM files, as clinics keep them."""

from io import BytesIO

import numpy as np

from mmskin.optional import needs

__all__ = ['read_dicom']


def read_dicom(data: bytes) -> np.ndarray:
    """The picture in a DICOM file's bytes: uint8 or uint16, (H, W) grey or (H, W, 3) RGB.

    Colours in luminance and chroma become RGB; palettes and a grey image's window are applied, and one whose low values
    are bright is inverted (https://dicom.nema.org/medical/dicom/current/output/html/part03.html#sect_C.7.6.3).

    Raises:
        ModuleNotFoundError: without pydicom.
        ValueError: if the file holds more than one frame.
    """
    pydicom, pixel_data = needs('pydicom', 'dicom'), needs('pydicom.pixels', 'dicom')
    dataset = pydicom.dcmread(BytesIO(data))
    if (frames := int(dataset.get('NumberOfFrames') or 1)) > 1:
        raise ValueError(f'{frames} frames in one DICOM file; export the one to look at')
    pixels = pixel_data.pixel_array(dataset)
    if dataset.PhotometricInterpretation == 'PALETTE COLOR':
        pixels = pixel_data.apply_color_lut(pixels, dataset)
    if dataset.PhotometricInterpretation.startswith('MONOCHROME'):
        return grey(pixel_data.apply_voi_lut(pixels, dataset), dataset)
    return pixels


def grey(values: np.ndarray, dataset: 'pydicom.Dataset') -> np.ndarray:  # type: ignore[name-defined] # noqa: F821
    """Stored grey values, signed or of any number of bits, as uint8, bright where the picture is."""
    span = 2 ** int(dataset.BitsStored) - 1
    low = -(span + 1) // 2 if dataset.PixelRepresentation else 0
    bright = np.clip((values.astype(np.float32) - low) / span, 0, 1)
    if dataset.PhotometricInterpretation == 'MONOCHROME1':
        bright = 1 - bright
    return np.round(bright * 255).astype(np.uint8)
