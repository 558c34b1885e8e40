"""Accuracy and mean average precision of a single-label classification."""

import logging
import math

import numpy as np
from mmengine.logging import print_log
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score

from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric, Row, mean_of_defined
from mmskin.registry import METRICS


def accuracy(pred_labels: ArrayLike, gt_labels: ArrayLike) -> float:
    """The share of the labels (N,) that are predicted right: AC in the paper's table 1."""
    return float(np.mean(np.asarray(pred_labels) == np.asarray(gt_labels)))


def binary_average_precision(positive: ArrayLike, scores: ArrayLike) -> float:
    """The area under the precision-recall curve of ``scores`` (N,), or nan if no sample is ``positive`` (N,).

    The curve is a staircase: the sum over thresholds of (rise in recall) x (precision there), as scikit-learn has it
    since 0.19. The trapezoids of earlier versions flatter a classifier with few distinct scores.
    """
    return float(average_precision_score(positive, scores)) if np.any(positive) else math.nan


def average_precision(scores: ArrayLike, gt_labels: ArrayLike) -> list[float]:
    """The average precision of each class against the rest; their mean is mAP.

    Args:
        scores: (N, num_classes).
        gt_labels: (N,).

    Returns:
        num_classes values; nan for a class that no sample has.
    """
    labels = np.asarray(gt_labels)
    return [binary_average_precision(labels == index, column) for index, column in enumerate(np.asarray(scores).T)]


@METRICS.register_module()
class ClassificationMetric(PerImageMetric):
    """``cls/AC`` and ``cls/mAP``, over the samples that have a ``gt_label`` and a prediction.

    A class that the set lacks is left out of mAP, with a warning in the log. The rows in ``per_image`` hold
    ``gt_label``, ``pred_label`` and ``score_<class>``; an unlabelled image has its prediction there.
    """

    default_prefix = 'cls'

    def measure(self, sample: dict) -> Row:
        """Labels and scores, as far as the sample has them."""
        row = {key: int(sample[key]) for key in ('gt_label', 'pred_label') if key in sample}
        scores = sample['pred_score'].tolist() if 'pred_score' in sample else []
        names = self.class_names(len(scores)) if scores else []
        if len(names) != len(scores):
            raise Mistake(
                f'the network has {len(scores)} classes, and the data set {len(names)}: {", ".join(names)}; '
                "set the head's num_classes, or metainfo=dict(classes=...) of the data set"
            )
        return {**row, **{f'score_{name}': score for name, score in zip(names, scores, strict=True)}}

    def summarize(self, rows: list[Row]) -> dict[str, float]:
        """Compare predictions and labels of the rows that have both."""
        judged = [row for row in rows if 'gt_label' in row and 'pred_label' in row]
        return self.compare(judged) if judged else {}

    def compare(self, rows: list[Row]) -> dict[str, float]:
        """AC and mAP of rows that all have a label and a prediction."""
        gt_labels = [row['gt_label'] for row in rows]
        precisions = average_precision(self.score_table(rows), gt_labels)
        if any(map(math.isnan, precisions)):
            warn_undefined('average precision of a class without images', 'mAP')
        return {
            'AC': accuracy([row['pred_label'] for row in rows], gt_labels),
            'mAP': mean_of_defined(precisions),
        }

    def class_names(self, num_classes: int) -> list[str]:
        """The dataset's class names, or the numbers of the classes where it has no names."""
        return list((self.dataset_meta or {}).get('classes', map(str, range(num_classes))))

    @staticmethod
    def score_table(rows: list[Row]) -> np.ndarray:
        """The scores of ``rows`` as an array (N, num_classes)."""
        return np.array([[value for key, value in row.items() if key.startswith('score_')] for row in rows])


def warn_undefined(what: str, mean: str) -> None:
    """Log that a value is undefined on this set of images, and left out of a mean."""
    print_log(f'The {what} is undefined (nan) and left out of {mean}.', logger='current', level=logging.WARNING)
