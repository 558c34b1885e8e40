"""Finding the images that a user means: files, folders, patterns, arrays, and lists of these."""

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape, has_magic, iglob
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from PIL import Image

from mmskin.datasets.isic2017 import MASK_SUFFIX, SUPERPIXEL_SUFFIX
from mmskin.errors import MissingFile, Mistake
from mmskin.files import SpooledDict, file_key
from mmskin.readers.images import IMAGE_FILES, MAX_PIXELS, is_dicom, read_file, read_image
from mmskin.registry import checked

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
        inputs: What the network is given with the image, by the input's name, as ``TaskSample`` has it.
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
        if not isinstance(self.content, Path | bytes):
            return self.mm_per_pixel
        if isinstance(self.content, Path):
            with self.content.open('rb') as file:
                start = file.read(HEAD)
        else:
            start = self.content[:HEAD]
        if not is_dicom(start):
            return self.mm_per_pixel
        from mmskin.readers.dicom import read_spacing

        data = self.content if isinstance(self.content, bytes) else read_file(self.content, self.max_pixels)
        stated, is_square = read_spacing(data, self.max_pixels)
        if self.mm_per_pixel is not None and not is_square:
            raise Mistake(
                f'{self.name}: its pixels are not square, so one mm_per_pixel does not fit; leave it out, or '
                'resample the image'
            )
        return stated if self.mm_per_pixel is None else self.mm_per_pixel


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


def find_images(inputs: Inputs, max_pixels: int = MAX_PIXELS) -> Iterator[ImageSource]:
    """The images of a path, a folder, a pattern, an array, a PIL image, bytes, or any list of these, in order.

    Of a folder these are its image files, sorted by name, without masks and superpixel maps as ISIC-2017 has them. A
    file that is named stands for itself, whatever its name, even if it is not there. None of them is decoded if it has
    more than ``max_pixels``.

    Raises:
        MissingFile: if a folder holds no image, or no file fits a pattern.
        Mistake: if an input is none of these.
    """
    for number, content in enumerate(_flat(inputs)):
        if isinstance(content, ImageSource):
            yield content
        else:
            name = content.stem if isinstance(content, Path) else f'image_{number}'
            yield ImageSource(name, content, max_pixels)


class ImageFiles(Sequence[ImageSource]):
    """Image files by the hundred thousand; each is made as it is asked for, and their names are on the disk.

    Args:
        paths: The files by image id.
        max_pixels: The most that is decoded of each.
        mm_per_pixel: Of each.
        for_all: What the network is given with each image.
        beside: The same by image id; it goes before ``for_all``.
    """

    def __init__(
        self,
        paths: SpooledDict,
        max_pixels: int = MAX_PIXELS,
        mm_per_pixel: float | None = None,
        for_all: Mapping[str, Any] | None = None,
        beside: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.paths, self.max_pixels, self.mm_per_pixel = paths, max_pixels, mm_per_pixel
        self.for_all, self.beside = for_all or {}, beside or {}

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> ImageSource: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageSource]: ...
    def __getitem__(self, index: int | slice) -> ImageSource | list[ImageSource]:
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(self._sources(places, places + 1))
        if places.step == 1:
            return [*self._sources(places.start, places.stop)]
        return [self[place] for place in places]

    def __iter__(self) -> Iterator[ImageSource]:
        return self._sources()

    def _sources(self, start: int = 0, stop: int | None = None) -> Iterator[ImageSource]:
        for image_id, path in self.paths.entries(start, stop):
            inputs = {**self.for_all, **self.beside.get(image_id, {})}
            yield ImageSource(image_id, Path(path), self.max_pixels, inputs=inputs, mm_per_pixel=self.mm_per_pixel)


@checked
def find_files(paths: Sequence[str | Path], max_pixels: int = MAX_PIXELS, recursive: bool = False) -> ImageFiles:
    """The images of files, folders and patterns, checked before any of them is read.

    Where two files have one name, or names that differ in capitals alone, the ids of all are their paths below the
    folder that they share, such as ``day1/7``.

    Raises:
        MissingFile: if a folder holds no image, no file fits a pattern, or none of the files is there.
        Mistake: if two of them still have one image id.
    """
    by_id, seen = SpooledDict(), SpooledDict()
    root = last = None
    is_there, are_distinct = False, True
    for path in _paths(paths, recursive):
        folder = os.path.dirname(path)
        if folder != last:  # once for each, not for each file
            last, whole = folder, os.path.abspath(folder)
            root = whole if root is None else os.path.commonpath([root, whole])
        is_there = is_there or os.path.exists(path)
        image_id = Path(path).stem
        are_distinct = are_distinct and seen.add(file_key(image_id)) and by_id.add(image_id, path)
    if not is_there:
        raise MissingFile(f'{", ".join(map(str, paths))}: no such file or folder')
    if not are_distinct:
        by_id, seen = SpooledDict(), SpooledDict()
        for path in _paths(paths, recursive):
            image_id = Path(os.path.abspath(path)).relative_to(root or '').with_suffix('').as_posix()
            if not seen.add(file_key(image_id), [image_id, path]):
                other_id, other = seen[file_key(image_id)]
                where = '' if other_id == image_id else ' on a disk that ignores capitals'
                first, second = (ImageSource(image_id, Path(place)).name for place in (other, path))
                raise Mistake(
                    f'{first} and {second} would both be image {image_id} in the results{where}; '
                    'rename one, or predict them into different folders'
                )
            by_id[image_id] = path
    return ImageFiles(by_id, max_pixels)


def is_single(inputs: Inputs) -> bool:
    """Whether ``inputs`` can only be one image."""
    if isinstance(inputs, str | Path):
        return not os.path.isdir(inputs) and not _is_pattern(str(inputs))
    return isinstance(inputs, bytes | bytearray | memoryview | np.ndarray | Image.Image | ImageSource)


def _flat(inputs: Any) -> Iterator[Content | ImageSource]:
    if isinstance(inputs, str | Path):
        yield from map(Path, _paths([inputs], recursive=False))
    elif isinstance(inputs, bytes | np.ndarray | Image.Image | ImageSource):
        yield inputs
    elif isinstance(inputs, bytearray | memoryview):
        yield bytes(inputs)
    elif (
        isinstance(inputs, Iterable)
        and not isinstance(inputs, io.IOBase | Mapping)
        and not hasattr(inputs, '__array__')
    ):
        for inner in inputs:
            yield from _flat(inner)
    else:
        raise Mistake(f'{type(inputs).__name__} is not an image; give a path, an RGB array, a PIL image or bytes')


def _paths(names: Iterable[str | Path], recursive: bool) -> Iterator[str]:
    """The files that are named, and those of folders and patterns, each in the order of their names."""
    for path in map(Path, names):
        if os.path.isdir(path):  # not where the system refuses to say: its reader names it
            yield from _photos(_below(str(path), recursive), path, recursive)
        elif _is_pattern(str(path)):
            folder, pattern = _split(path)
            matches = iglob(str(Path(escape(str(folder)), pattern)), recursive=True)
            yield from _photos(filter(_is_file, matches), path)
        else:
            yield str(path)


def _below(folder: str, recursive: bool) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_file(entry.path):
                yield entry.name if folder == '.' else entry.path
            elif recursive and entry.is_dir(follow_symlinks=False):
                with suppress(PermissionError):
                    yield from _below(entry.name if folder == '.' else entry.path, recursive)


def _is_file(path: str) -> bool:
    """Whether there is a file, or a link that leads nowhere, for its reader to name."""
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def _is_pattern(path: str) -> bool:
    return has_magic(path) and has_magic(_split(Path(path))[1])


def _split(path: Path) -> tuple[Path, str]:
    """The part of a path that is there, and the rest: in folders that are there, brackets and stars are letters."""
    there = next((folder for folder in (path, *path.parents) if folder.exists()), Path())
    return there, str(path.relative_to(there))


def _photos(paths: Iterable[str], place: Path, recursive: bool = True) -> Iterator[str]:
    """Those of the files in ``place`` that are photos, sorted."""
    photos = SpooledDict()
    for path in paths:
        name = os.path.basename(path)
        is_photo = os.path.splitext(name)[1].lower() in IMAGE_FILES and not name.startswith('.')
        if is_photo and not name.lower().endswith(NOT_PHOTOS):
            photos.add(path.replace(os.sep, '\0'))  # a folder's files follow each other
    if not photos:
        deeper = not recursive and any(map(Path.is_dir, place.iterdir()))
        hint = '; --recursive looks into its folders, too' if deeper else ''
        raise MissingFile(f'{place}: no image there ({", ".join(IMAGE_FILES)}){hint}')
    for path in photos.sorted():
        yield path.replace('\0', os.sep)
