"""The segmentation scores of the ISIC challenge, per image and averaged over images."""

import math

import numpy as np
from numpy.typing import ArrayLike

from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric, Row, mean_of_defined, numbers_in
from mmskin.registry import METRICS
from mmskin.structures import IGNORED

KEYS = ('JA', 'DI', 'AC', 'sensitivity', 'specificity')


def segmentation_scores(pred: ArrayLike, gt: ArrayLike) -> dict[str, float]:
    """JA, DI, AC, sensitivity and specificity of one image.

    The formulas are the paper's equation 10. A score whose denominator is zero is nan, where the 2017 scorer
    leaves the image out of the mean: sensitivity without foreground, specificity without background, JA and DI where
    both masks are empty. (Later scorers give such an image a 1.)

    Args:
        pred: binary mask (..., H, W), background 0.
        gt: binary mask of the same shape.

    Raises:
        Mistake: if the shapes differ.
    """
    predicted, true = as_mask(pred), as_mask(gt)
    if predicted.shape != true.shape:
        raise Mistake(
            f'the predicted mask has shape {predicted.shape}, the true one {true.shape}; '
            "predict at the mask file's own size"
        )
    tp = int(np.count_nonzero(predicted & true))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(true)) - tp
    return confusion_scores(tp, fp, fn, tn=true.size - tp - fp - fn)


def as_mask(mask: ArrayLike) -> np.ndarray:
    """``mask`` as a boolean array in main memory; whatever is above zero is foreground."""
    (levels,) = numbers_in(mask=mask)
    return levels > 0


def confusion_scores(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """The five scores from counts of pixels; equation 10 of the paper, nan for 0 / 0."""
    return {
        'JA': ratio(tp, tp + fp + fn),
        'DI': ratio(2 * tp, 2 * tp + fp + fn),
        'AC': ratio(tp + tn, tp + fp + fn + tn),
        'sensitivity': ratio(tp, tp + fn),
        'specificity': ratio(tn, tn + fp),
    }


def ratio(part: int, whole: int) -> float:
    """``part / whole``, or nan if ``whole`` is zero."""
    return part / whole if whole else math.nan


def mean_over_images(rows: list[Row]) -> dict[str, float]:
    """The mean of each score over images, undefined ones left out; empty if there is no row."""
    keys = dict.fromkeys(key for row in rows for key in row if key not in ('image_id', 'mask_share'))
    return {key: mean_of_defined(row[key] for row in rows if key in row) for key in keys}


@METRICS.register_module()
class SegmentationMetric(PerImageMetric):
    """``<task>/JA``, ``/DI``, ``/AC``, ``/sensitivity``, ``/specificity``: means over images; ``seg`` by default.

    Masks are compared at the size of the mask file. Of several outlines per image, classes or masks that may overlap,
    each has the five scores as ``<task>/JA_<name>``, and those without a name are the means over the outlines of an
    image. Pixels of a class map that hold 255 do not count. The rows in ``per_image`` also hold ``mask_share``, the
    share of the image that is outlined in truth.

    The paper's DI of 0.868 is not 2 JA / (1 + JA) for its JA of 0.787, so it too averaged over images and did not pool
    pixels.
    """

    default_prefix = 'seg'
    default_target = 'gt_sem_seg'

    def measure(self, sample: dict) -> Row:
        """The five scores of a sample that has both masks, and ``mask_share``."""
        target, field = self.target_of(sample), f'{self.task}_mask'
        if target not in sample or field not in sample:
            return {}
        try:
            scores = outline_scores(sample[field]['data'], sample[target]['data'])
        except ValueError as error:
            raise Mistake(f'{sample["image_id"]}: {error}') from error
        row = {key: mean_of_defined(outline[key] for outline in scores) for key in KEYS}
        (levels,) = numbers_in(truth=sample[target]['data'])  # masks (C, H, W) or a map of classes (1, H, W)
        row['mask_share'] = float(((levels > 0) & (levels != IGNORED)).any(axis=0).mean())
        if len(scores) > 1:
            names = self.output_names(sample, len(scores))
            row |= {
                f'{key}_{name}': v for name, outline in zip(names, scores, strict=True) for key, v in outline.items()
            }
        return row

    def summarize(self, rows: list[Row]) -> dict[str, float]:
        """The means over the images that were compared."""
        return mean_over_images([row for row in rows if 'JA' in row])


def outline_scores(pred: ArrayLike, gt: ArrayLike) -> list[dict[str, float]]:
    """The five scores of each outline of an image.

    Args:
        pred: binary masks (C, H, W).
        gt: binary masks of the same shape, or a map (1, H, W) of classes from 1, where pixels of 255 do not count.
    """
    predicted, (true,) = as_mask(pred), numbers_in(gt=gt)
    if predicted.shape == true.shape:
        return [segmentation_scores(*pair) for pair in zip(predicted, true, strict=True)]
    if true.shape != (1, *predicted.shape[1:]):
        return [segmentation_scores(predicted, true)]  # which says what is wrong
    counted = true[0] != IGNORED
    return [segmentation_scores(mask[counted], (true[0] == k)[counted]) for k, mask in enumerate(predicted, 1)]
