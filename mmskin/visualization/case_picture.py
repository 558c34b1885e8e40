"""One image with both outlines and what the network says, to be looked at among hundreds as training goes on."""

import cv2
import numpy as np

from mmskin.visualization.colors import PREDICTED, TRUE
from mmskin.visualization.contour_sheet import Case, readable
from mmskin.visualization.overlay import add_caption, draw_outlines
from mmskin.visualization.thumbnails import read_thumbnail

SIZE = 320  # pixels on the longer side


def read_image(path: str | None) -> np.ndarray:
    """The image at ``path`` as ``draw_case`` takes it (h, w, 3), RGB, its longer side ``SIZE``; grey without a path."""
    image = read_thumbnail(path, SIZE)
    scale = SIZE / max(image.shape)
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) if scale > 1 else image


def draw_case(image: np.ndarray, case: Case) -> np.ndarray:
    """``image`` with the true and the predicted outline, and below it name, JA, prediction and truth, as far as known.

    Args:
        image: from ``read_image``.
        case: what to draw on it.
    """
    height, width = image.shape[:2]
    picture = image
    for lines, color in ((case.true_outlines, TRUE), (case.pred_outlines, PREDICTED)):
        points = [line.astype(float) * (width, height) - 0.5 for line in lines]
        picture = draw_outlines(picture, points, (height, width), color, width=2)
    for text, color in captions(case):
        picture = add_caption(picture, text, color)
    return picture


def captions(case: Case) -> list[tuple[str, str]]:
    """Lines of text, in the colour of what they tell of; always three, so that a run's pictures are of one size."""
    jaccard = '' if np.isnan(case.jaccard) else f'   Jaccard {case.jaccard:.2f}'
    return [(case.image_id + jaccard, 'black'), (predicted(case), PREDICTED), (true(case), TRUE)]


def predicted(case: Case) -> str:
    """The predicted class with its probability, and whether it is wrong."""
    score = f' {case.scores[case.pred_class]:.2f}' if case.pred_class in case.scores else ''
    wrong = ' (wrong)' if case.wrong else ''
    return f'predicted: {readable(case.pred_class) or "outline"}{score}{wrong}'


def true(case: Case) -> str:
    """The true class, or that it is not known."""
    known = 'outline' if case.true_outlines else 'not known'
    return f'true: {readable(case.gt_class) or known}'
