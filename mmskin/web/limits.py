"""What a page or a service takes: how large a file, how many pixels, how many images at a time, and how much of all."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmskin.errors import Mistake
from mmskin.readers.images import MAX_PIXELS

if TYPE_CHECKING:
    from mmskin.inference.image_sources import ImageSource

MEGA = 1_000_000


@dataclass(frozen=True)
class Limits:
    """The most that a page or a service takes.

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
    def file_bytes(self) -> int:
        """The most of a file."""
        return int(self.megabytes * MEGA)

    @property
    def total_bytes(self) -> int:
        """The most of all uploads together."""
        return int(self.total_megabytes * MEGA)

    def check(self, size: int, name: str) -> None:
        """Raise a ``Mistake`` if a file of ``size`` bytes is empty or too large."""
        if size == 0:
            raise Mistake(f'{name}: the file is empty')
        if size > self.file_bytes:
            raise Mistake(f'{name}: {size / MEGA:.1f} MB; at most {self.megabytes:g} MB are accepted')

    def source(self, content: bytes, name: str) -> 'ImageSource':
        """A file's content under the name that its owner gave it; its pixels are counted before it is decoded."""
        from mmskin.inference.image_sources import ImageSource  # which imports torch; a door does without

        self.check(len(content), name)
        return ImageSource(Path(name).stem, content, self.pixels, name)
