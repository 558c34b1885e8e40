"""Images that are no dermoscopic images of a lesion, to see whether a network says so: painted here, or of packages."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mmskin.datasets.synthetic import SyntheticLesions

SIZE = 256
SKIN = [(224, 172, 150), (198, 134, 108), (241, 206, 186), (141, 85, 60), (232, 190, 172), (92, 57, 40)]  # RGB
PACKAGED = {  # of scikit-image's wheel
    'everyday': (
        'astronaut',
        'brick',
        'camera',
        'chelsea',
        'clock_motion',
        'coffee',
        'coins',
        'grass',
        'gravel',
        'hubble_deep_field',
        'motorcycle_left',
        'page',
        'rocket',
        'text',
    ),
    'histology': ('cell', 'ihc', 'retina'),
}


def strangers(kind: str, count: int = 24, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Images of a kind by name, RGB (h, w, 3): the same for one seed.

    Args:
        kind: One of ``KINDS``.
        count: How many.
        seed: For what is drawn.
    """
    generator = np.random.default_rng(seed)
    for number in range(count):
        yield f'{kind}_{number:02d}', KINDS[kind](number, generator)


def blank(number: int, generator: np.random.Generator) -> np.ndarray:
    """One colour, or a smooth change from one to another."""
    first, second = generator.integers(0, 256, (2, 3))
    fixed = [(0, 0, 0), (255, 255, 255), (0, 0, 255), (128, 128, 128), *SKIN]
    if number < len(fixed):
        first = second = np.array(fixed[number])
    elif number % 2:
        second = first
    ramp = np.linspace(0, 1, SIZE)[:, None, None]
    image = first * (1 - ramp) + second * ramp
    return np.broadcast_to(image, (SIZE, SIZE, 3)).astype(np.uint8)


def noise(number: int, generator: np.random.Generator) -> np.ndarray:
    """Independent pixels: even, normal about a colour, salt and pepper, or smoothed."""
    even = generator.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    if number % 4 == 0:
        return even
    if number % 4 == 1:
        return np.clip(generator.normal(generator.integers(60, 200, 3), 40, even.shape), 0, 255).astype(np.uint8)
    if number % 4 == 2:
        return np.where(even[..., :1] < 100, even[..., 1:2] // 128 * 255, 128).repeat(3, 2).astype(np.uint8)
    smooth = cv2.GaussianBlur(even, (0, 0), float(generator.uniform(1, 5))).astype(float)
    return np.clip((smooth - 128) * generator.uniform(2, 8) + 128, 0, 255).astype(np.uint8)


def painted(number: int, generator: np.random.Generator) -> np.ndarray:
    """A lesion of the synthetic set."""
    return SyntheticLesions(seed=int(generator.integers(1 << 30)), shape=(192, SIZE)).sample('test', number)[0]


def clinical(number: int, generator: np.random.Generator) -> np.ndarray:
    """A limb in front of a cloth from a metre away, with marks of a few pixels."""
    grid = np.mgrid[:SIZE, :SIZE] / SIZE
    angle = generator.uniform(0, np.pi)
    across = (grid[0] - 0.5) * np.cos(angle) + (grid[1] - 0.5) * np.sin(angle)
    width = generator.uniform(0.18, 0.32)
    inside = np.clip((width - np.abs(across)) * 60, 0, 1)[..., None]
    shade = np.sqrt(np.clip(1 - (across / width) ** 2, 0.1, 1))[..., None]
    cloth = generator.integers(20, 230, 3) * (1 + 0.15 * np.sin(grid[0] * generator.uniform(20, 90)))[..., None]
    image = inside * np.array(SKIN[number % len(SKIN)]) * (0.55 + 0.45 * shade) + (1 - inside) * cloth
    image = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
    for _ in range(generator.integers(2, 9)):
        place = generator.uniform(-0.45, 0.45), generator.uniform(-0.6, 0.6) * width
        row = 0.5 - place[0] * np.sin(angle) + place[1] * np.cos(angle)
        column = 0.5 + place[0] * np.cos(angle) + place[1] * np.sin(angle)
        centre = (int(column * SIZE), int(row * SIZE))
        cv2.circle(image, centre, int(generator.integers(2, 5)), (90, 55, 45), -1, cv2.LINE_AA)
    return np.clip(image + generator.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def histology(number: int, generator: np.random.Generator) -> np.ndarray:
    """Stained tissue: nuclei painted on pink, or a part of a micrograph that comes with scikit-image."""
    if number % 2:
        return part_of_packaged('histology', number // 2, generator)
    image = np.full((SIZE, SIZE, 3), generator.integers((215, 150, 190), (245, 200, 225)), np.uint8)
    for _ in range(int(generator.integers(80, 320))):
        centre, axes = generator.integers(0, SIZE, 2), generator.integers(3, 9, 2)
        color = generator.integers((70, 30, 100), (140, 90, 170))
        turn = float(generator.uniform(0, 180))
        cv2.ellipse(image, tuple(map(int, centre)), tuple(map(int, axes)), turn, 0, 360, color.tolist(), -1)
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def part_of_packaged(kind: str, number: int, generator: np.random.Generator) -> np.ndarray:
    """A picture that comes with scikit-image or scikit-learn: each file as it is, then a part of half its sides.

    Grey ones have three equal channels.
    """
    import skimage.data
    import sklearn.datasets

    folder = Path(skimage.data.__file__).parent
    files = [file for name in PACKAGED[kind] for file in sorted(folder.glob(f'{name}.*')) if file.suffix != '.tif']
    if kind == 'everyday':
        files += sorted((Path(sklearn.datasets.__file__).parent / 'images').glob('*.jpg'))
    image = np.asarray(Image.open(files[number % len(files)]).convert('RGB'))
    if number < len(files):
        return image
    height, width = image.shape[:2]
    top, left = generator.integers(0, height // 2 + 1), generator.integers(0, width // 2 + 1)
    return image[top : top + height // 2, left : left + width // 2]


KINDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    'blank': blank,
    'noise': noise,
    'painted': painted,
    'clinical': clinical,
    'histology': histology,
    'everyday': partial(part_of_packaged, 'everyday'),
}
