"""The lesion segmentation scores of the ISIC challenge, per image and averaged over images."""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike

from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric, Row, mean_of_defined
from mmskin.registry import METRICS

KEYS = ('JA', 'DI', 'AC', 'sensitivity', 'specificity')


def segmentation_scores(pred: ArrayLike, gt: ArrayLike) -> dict[str, float]:
    """JA, DI, AC, sensitivity and specificity of one image.

    The formulas are the paper's equation 10. A score whose denominator is zero is nan, where the 2017 scorer
    leaves the image out of the mean: sensitivity without a lesion, specificity without background, JA and DI where
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
    """``mask`` as a boolean array in main memory; whatever is above zero is lesion."""
    return torch.as_tensor(mask).cpu().numpy() > 0


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
    return {key: mean_of_defined(row[key] for row in rows) for key in KEYS} if rows else {}


@METRICS.register_module()
class SegmentationMetric(PerImageMetric):
    """``seg/JA``, ``seg/DI``, ``seg/AC``, ``seg/sensitivity``, ``seg/specificity``: means over images.

    The rows in ``per_image`` also hold ``lesion_share``, the true lesion's share of the image.

    ``pred_sem_seg`` and ``gt_sem_seg`` are compared at the size of the mask file. The paper's DI of 0.868 is not
    2 JA / (1 + JA) for its JA of 0.787, so it too averaged over images and did not pool pixels.
    """

    default_prefix = 'seg'

    def measure(self, sample: dict) -> Row:
        """The five scores of a sample that has both masks, and ``lesion_share``.

        Raises:
            Mistake: if the masks differ in size.
        """
        if 'gt_sem_seg' not in sample or 'pred_sem_seg' not in sample:
            return {}
        true = as_mask(sample['gt_sem_seg']['data'])
        try:
            scores = segmentation_scores(sample['pred_sem_seg']['data'], true)
            return {**scores, 'lesion_share': float(true.mean())}
        except ValueError as error:
            raise Mistake(f'{sample["image_id"]}: {error}') from error

    def summarize(self, rows: list[Row]) -> dict[str, float]:
        """The means over the images that were compared."""
        return mean_over_images([row for row in rows if 'JA' in row])
