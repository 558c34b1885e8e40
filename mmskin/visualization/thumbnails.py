"""Images and masks made small enough to keep or to draw by the dozen."""

import cv2
import numpy as np

THUMBNAIL = 224  # pixels on the longer side
MAX_OUTLINES = 16  # an untrained network scatters thousands of specks; what is kept of a mask has to stay small


def thumbnail(image: np.ndarray, longest: int = THUMBNAIL) -> np.ndarray:
    """``image`` (H, W[, 3]) shrunk by area averaging to at most ``longest`` pixels on its longer side."""
    scale = min(1.0, longest / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return image if scale == 1 else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines of the largest parts of a mask (H, W), holes included.

    Returns:
        closed polygons (num_points, 2), x and y as fractions of width and height, float16.
    """
    small = thumbnail(mask.astype(np.uint8))
    found, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    largest = sorted(found, key=cv2.contourArea, reverse=True)[:MAX_OUTLINES]
    simple = [cv2.approxPolyDP(contour, 0.5, True)[:, 0] for contour in largest]
    return [((np.vstack([line, line[:1]]) + 0.5) / small.shape[::-1]).astype(np.float16) for line in simple]


def read_thumbnail(path: str | None, longest: int = THUMBNAIL) -> np.ndarray:
    """The image at ``path``, upright RGB, shrunk to ``longest`` pixels at most; light grey if there is no path.

    Raises:
        FileNotFoundError: if the file is missing or no image.
    """
    if path is None:
        return np.full((longest, longest, 3), 224, np.uint8)
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f'{path} is missing or not an image; pictures are drawn from the files of images.')
    return cv2.cvtColor(thumbnail(image, longest), cv2.COLOR_BGR2RGB)
