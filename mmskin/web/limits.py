"""What the page takes: how large a file, how many pixels, how many images at a time, and how much of all."""

from dataclasses import dataclass
from pathlib import Path

from mmskin.errors import Mistake
from mmskin.inference.image_sources import ImageSource
from mmskin.readers.images import MAX_PIXELS

__all__ = ['Limits']

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The most that the page takes.

    Attributes:
        megabytes: of a file.
        pixels: of an image, counted before any of them is decoded.
        images: at a time.
        total_megabytes: of all uploads together that wait for their answers.
        seconds: that a request may pause before it is complete.
        life: seconds that an upload or an answer stays which nobody waits for.
    """

    megabytes: float = 30
    pixels: int = MAX_PIXELS
    images: int = 20
    total_megabytes: float = 2000
    seconds: float = 20
    life: float = 45

    def __post_init__(self) -> None:
        if min(self.megabytes, self.pixels, self.images, self.total_megabytes, self.seconds, self.life) <= 0:
            raise Mistake(f'{self} would take no image at all; give numbers above 0')

    @property
    def bytes(self) -> int:
        """The most of a file."""
        return int(self.megabytes * MEGA)

    @property
    def request_bytes(self) -> int:
        """The most of a request: so many files, and what the form adds."""
        return self.images * self.bytes + MEGA

    @property
    def total_bytes(self) -> int:
        """The most of all uploads together."""
        return int(self.total_megabytes * MEGA)

    def read(self, path: Path, name: str) -> ImageSource:
        """A file's content, in memory, under the name that its owner gave it; its pixels are counted as it is decoded.

        Raises:
            Mistake: if it is empty or too large.
        """
        size = path.stat().st_size
        if size == 0:
            raise Mistake(f'{name}: the file is empty')
        if size > self.bytes:
            raise Mistake(f'{name}: {size / MEGA:.1f} MB; this page takes {self.megabytes:g} MB at most')
        return ImageSource(Path(name).stem, path.read_bytes(), self.pixels, name)
