"""What the page takes: how large a file, how many pixels, how many images at a time."""

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mmskin.datasets.readers.any_image import DICOM_MARK
from mmskin.datasets.readers.image_file import open_image
from mmskin.errors import Mistake
from mmskin.inference.image_sources import ImageSource
from mmskin.optional import needs

__all__ = ['Limits']

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The most that the page takes.

    Attributes:
        megabytes: of a file.
        pixels: of an image, known before any of them is decoded.
        images: at a time.
    """

    megabytes: float = 30
    pixels: int = 50 * MEGA
    images: int = 20

    def __post_init__(self) -> None:
        if min(self.megabytes, self.pixels, self.images) <= 0:
            raise Mistake(f'{self} would take no image at all; give numbers above 0')

    @property
    def bytes(self) -> int:
        """The most of a file."""
        return int(self.megabytes * MEGA)

    def read(self, path: Path, name: str) -> ImageSource:
        """A file's content, in memory, under the name that its owner gave it.

        Raises:
            Mistake: if it is empty, too large, has too many pixels, or is no image.
        """
        size = path.stat().st_size
        if size == 0:
            raise Mistake(f'{name}: the file is empty')
        if size > self.bytes:
            raise Mistake(f'{name}: {size / MEGA:.1f} MB; this page takes {self.megabytes:g} MB at most')
        data = path.read_bytes()
        width, height = image_size(path, data, name)
        if width * height > self.pixels:
            raise Mistake(
                f'{name}: {width} x {height} pixels are {width * height / MEGA:.1f} million; '
                f'this page takes {self.pixels / MEGA:g} million at most'
            )
        return ImageSource(Path(name).stem, data)


def image_size(path: Path, data: bytes, name: str) -> tuple[int, int]:
    """Width and height of an encoded image, the file's content, from its head.

    Raises:
        Mistake: if it is no image.
    """
    try:
        if data[DICOM_MARK] == b'DICM':
            return dicom_size(path)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)  # the limit above says it
            with open_image(data) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise Mistake(f'{name}: far too many pixels ({error})') from error
    except Image.UnidentifiedImageError as error:
        raise Mistake(f'{name}: not an image that can be read') from error
    except Exception as error:  # decoders raise whatever they like
        raise Mistake(f'{name}: not an image that can be read ({error})') from error


def dicom_size(path: Path) -> tuple[int, int]:
    """Width and height, as a DICOM file's head has them.

    Raises:
        Mistake: if the head is deflated, too: it might be of any size.
    """
    pydicom = needs('pydicom', 'dicom')
    syntax = pydicom.filereader.read_file_meta_info(path).get('TransferSyntaxUID')
    if syntax == pydicom.uid.DeflatedExplicitVRLittleEndian:
        raise Mistake('deflated DICOM; save it in another transfer syntax')
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return int(dataset.Columns), int(dataset.Rows)
