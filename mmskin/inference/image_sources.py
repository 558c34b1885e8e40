"""Finding the images that a user means: files, folders, patterns, arrays, and lists of these."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from glob import escape, glob, has_magic
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from mmskin.datasets.isic2017 import MASK_SUFFIX, SUPERPIXEL_SUFFIX
from mmskin.errors import MissingFile, Mistake
from mmskin.files import file_key
from mmskin.readers.images import IMAGE_FILES, MAX_PIXELS, is_dicom, read_file, read_image

__all__ = ['HeldImage', 'ImageSource', 'Inputs', 'find_files', 'find_images', 'is_single']

Content: TypeAlias = Path | bytes | np.ndarray | Image.Image
HEAD = 1024  # bytes, by which a DICOM file is known
NOT_PHOTOS = (MASK_SUFFIX, SUPERPIXEL_SUFFIX)


@dataclass(frozen=True, eq=False)
class ImageSource:
    """One image that has not been read yet.

    Attributes:
        image_id: The file's name without its suffix, with folders in front where names occur twice, or
            ``image_<number>`` for what comes from memory.
        content: The file, its bytes, an RGB array or a PIL image.
        max_pixels: The most that is decoded.
        file_name: What errors call it; its path or id by default.
        inputs: What the network is told beside the image, by the input's name, as ``TaskSample`` has it.
        mm_per_pixel: Of the upright image's pixels; a DICOM file may say it itself.
    """

    image_id: str
    content: Content
    max_pixels: int = MAX_PIXELS
    file_name: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    mm_per_pixel: float | None = None

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return self.content if isinstance(self.content, Path) else None

    @property
    def name(self) -> str:
        """What an error calls it, in one line."""
        name = self.file_name or str(self.path or self.image_id)
        return name if name.isprintable() else repr(name)[1:-1]

    def read(self, min_size: float | None = None) -> tuple[np.ndarray, tuple[int, int]]:
        """See ``read_image``; whatever is wrong with the image is a Mistake that names it."""
        return read_image(self.content, min_size, self.max_pixels, self.name)

    def scale(self) -> float | None:
        """Millimetres of a pixel, as they were given, or as a DICOM file says; None if they are unknown."""
        if self.mm_per_pixel is not None or not isinstance(self.content, Path | bytes):
            return self.mm_per_pixel
        if isinstance(self.content, Path):
            with self.content.open('rb') as file:
                start = file.read(HEAD)
        else:
            start = self.content[:HEAD]
        if not is_dicom(start):
            return None
        from mmskin.readers.dicom import read_spacing

        data = self.content if isinstance(self.content, bytes) else read_file(self.content, self.max_pixels)
        return read_spacing(data, self.max_pixels)


@dataclass(frozen=True, eq=False)
class HeldImage(ImageSource):
    """An image that is decoded once for each size in which it is read."""

    decoded: dict[float | None, tuple[np.ndarray, tuple[int, int]]] = field(default_factory=dict, init=False)

    def read(self, min_size: float | None = None) -> tuple[np.ndarray, tuple[int, int]]:
        """As an ``ImageSource``; nobody may write into the pixels."""
        if min_size not in self.decoded:
            self.decoded[min_size] = super().read(min_size)
        return self.decoded[min_size]


Inputs: TypeAlias = 'str | Content | ImageSource | Iterable[Inputs]'


def find_images(inputs: Inputs, max_pixels: int = MAX_PIXELS, recursive: bool = False) -> Iterator[ImageSource]:
    """The images of a path, a folder, a pattern, an array, a PIL image, bytes, or any list of these, in order.

    Of a folder these are its image files, if ``recursive`` with those in folders below, sorted by name, without masks
    and superpixel maps as ISIC-2017 has them. A file that is named stands for itself, whatever its name, even if it is
    not there. None of them is decoded if it has more than ``max_pixels``.

    Raises:
        MissingFile: if a folder holds no image, or no file fits a pattern.
        TypeError: if an input is none of these.
    """
    for number, content in enumerate(_flat(inputs, recursive)):
        if isinstance(content, ImageSource):
            yield content
        else:
            name = content.stem if isinstance(content, Path) else f'image_{number}'
            yield ImageSource(name, content, max_pixels)


def find_files(paths: Sequence[str | Path], max_pixels: int = MAX_PIXELS, recursive: bool = False) -> list[ImageSource]:
    """The images of files, folders and patterns, checked before any of them is read.

    Where two files have one name, or names that differ in capitals alone, the ids of all are their paths below the
    folder that they share, such as ``day1/7``.

    Raises:
        MissingFile: if a folder holds no image, no file fits a pattern, or none of the files is there.
        Mistake: if two of them still have one image id.
    """
    sources = list(find_images(paths, max_pixels, recursive))
    if not any(source.path and source.path.exists() for source in sources):
        raise MissingFile(f'{", ".join(map(str, paths))}: no such file or folder')
    if len({file_key(source.image_id) for source in sources}) < len(sources):
        files = [Path(os.path.abspath(source.content)) for source in sources]  # type: ignore[arg-type]
        root = os.path.commonpath([file.parent for file in files])
        ids = [file.relative_to(root).with_suffix('').as_posix() for file in files]
        sources = [replace(source, image_id=image_id) for source, image_id in zip(sources, ids, strict=True)]
    seen: dict[str, ImageSource] = {}
    for source in sources:
        if other := seen.get(file_key(source.image_id)):
            where = '' if other.image_id == source.image_id else ' on a disk that ignores capitals'
            raise Mistake(
                f'{other.name} and {source.name} would both be image {source.image_id} in the results{where}; '
                'rename one, or predict them into different folders'
            )
        seen[file_key(source.image_id)] = source
    return sources


def is_single(inputs: Inputs) -> bool:
    """Whether ``inputs`` can only be one image."""
    if isinstance(inputs, str | Path):
        return not Path(inputs).is_dir() and not _is_pattern(str(inputs))
    return isinstance(inputs, bytes | bytearray | memoryview | np.ndarray | Image.Image | ImageSource)


def _flat(inputs: Any, recursive: bool = False) -> Iterator[Content | ImageSource]:
    if isinstance(inputs, str | Path):
        yield from _files(Path(inputs), recursive)
    elif isinstance(inputs, bytes | np.ndarray | Image.Image | ImageSource):
        yield inputs
    elif isinstance(inputs, bytearray | memoryview):
        yield bytes(inputs)
    elif isinstance(inputs, Iterable) and not isinstance(inputs, io.IOBase) and not hasattr(inputs, '__array__'):
        for one in inputs:
            yield from _flat(one, recursive)
    else:
        raise TypeError(f'{type(inputs).__name__} is no image; give a path, an RGB array, a PIL image or bytes')


def _files(path: Path, recursive: bool = False) -> list[Path]:
    if path.is_dir():
        files = _photos(path.rglob('*') if recursive else path.iterdir())
    elif _is_pattern(str(path)):
        folder, pattern = _split(path)
        files = _photos(map(Path, glob(str(Path(escape(str(folder)), pattern)), recursive=True)))
    else:
        return [path]
    if not files:
        raise MissingFile(f'{path}: no image there ({", ".join(IMAGE_FILES)})')
    return files


def _is_pattern(path: str) -> bool:
    return has_magic(path) and has_magic(_split(Path(path))[1])


def _split(path: Path) -> tuple[Path, str]:
    """The part of a path that is there, and the rest: in folders that are there, brackets and stars are letters."""
    there = next((folder for folder in (path, *path.parents) if folder.exists()), Path())
    return there, str(path.relative_to(there))


def _photos(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in IMAGE_FILES
        and not path.name.startswith('.')
        and not path.name.lower().endswith(NOT_PHOTOS)
        and path.is_file()
    )
