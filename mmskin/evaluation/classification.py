"""Scores of classifications: one class of several, grades in order, and any of several labels."""

import logging
import math

import numpy as np
from mmengine.logging import print_log
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric, Row, mean_of_defined, numbers_in
from mmskin.registry import METRICS
from mmskin.structures import label_in


def accuracy(pred_labels: ArrayLike, gt_labels: ArrayLike) -> float:
    """The share of the labels (N,) that are predicted right: AC in the paper's table 1."""
    predicted, true = numbers_in(pred_labels=pred_labels, gt_labels=gt_labels)
    return float(np.mean(predicted == true))


def binary_average_precision(positive: ArrayLike, scores: ArrayLike) -> float:
    """The area under the precision-recall curve of ``scores`` (N,), or nan if no sample is ``positive`` (N,).

    The curve is a staircase: the sum over thresholds of (rise in recall) x (precision there), as scikit-learn has it
    since 0.19. The trapezoids of earlier versions flatter a classifier with few distinct scores.
    """
    truth, scores = numbers_in(positive=positive, scores=scores)
    return float(average_precision_score(truth, scores)) if np.any(truth) else math.nan


def average_precision(scores: ArrayLike, gt_labels: ArrayLike) -> list[float]:
    """The average precision of each class against the rest; their mean is mAP.

    Args:
        scores: (N, num_classes).
        gt_labels: (N,).

    Returns:
        num_classes values; nan for a class that no sample has.
    """
    (labels,), (table,) = numbers_in(gt_labels=gt_labels), numbers_in(scores=scores)
    return [binary_average_precision(labels == index, column) for index, column in enumerate(table.T)]


@METRICS.register_module()
class ClassificationMetric(PerImageMetric):
    """``<task>/AC`` and ``<task>/mAP``, over the samples that have a label and a prediction; ``cls`` by default.

    A class that the set lacks is left out of mAP, with a warning in the log. The rows in ``per_image`` hold
    ``gt_label``, ``pred_label`` and ``score_<class>``; an unlabelled image has its prediction there.
    """

    default_prefix = 'cls'
    default_target = 'gt_label'

    def measure(self, sample: dict) -> Row:
        """Labels and scores, as far as the sample has them."""
        fields = {'gt_label': self.target_of(sample), 'pred_label': f'{self.task}_label'}
        row = {key: label for key, field in fields.items() if (label := label_in(sample, field)) is not None}
        scores = sample[f'{self.task}_score'].tolist() if f'{self.task}_score' in sample else []
        if scores and not 0 <= row.get('gt_label', 0) < len(scores):
            raise Mistake(
                f'{sample["image_id"]}: the class is {row["gt_label"]}; {self.task} has 0 to {len(scores) - 1}'
            )
        names = self.output_names(sample, len(scores)) if scores else []
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

    @staticmethod
    def score_table(rows: list[Row]) -> np.ndarray:
        """The scores of ``rows`` as an array (N, num_classes)."""
        return np.array([[value for key, value in row.items() if key.startswith('score_')] for row in rows])


@METRICS.register_module()
class OrdinalMetric(ClassificationMetric):
    """``<task>/AC``, ``<task>/mAP``, ``<task>/MAE`` and ``<task>/kappa`` of grades in order; ``cls`` by default.

    MAE is the mean distance in grades. Kappa is Cohen's with quadratic weights
    (https://doi.org/10.1037/h0026256), as in challenges on retinopathy: 1 for full agreement, 0 for chance. It is nan
    where all grades, true and predicted, are one.
    """

    def compare(self, rows: list[Row]) -> dict[str, float]:
        """The four scores."""
        true, predicted = (np.array([row[key] for row in rows]) for key in ('gt_label', 'pred_label'))
        kappa = math.nan
        if np.ptp(np.concatenate([true, predicted])):
            kappa = float(cohen_kappa_score(true, predicted, weights='quadratic'))
        return {**super().compare(rows), 'MAE': float(np.abs(true - predicted).mean()), 'kappa': kappa}


@METRICS.register_module()
class MultiLabelMetric(PerImageMetric):
    """``<task>/AUC_<label>``, ``<task>/AP_<label>``, and their means ``AUC_mean`` and ``mAP``; ``labels`` by default.

    A label counts on the images where it is known; one that no image has, or all have, is left out of the means. The
    rows in ``per_image`` hold ``gt_<label>`` and ``prob_<label>``.
    """

    default_prefix = 'labels'
    default_target = 'gt_labels'

    def measure(self, sample: dict) -> Row:
        """Labels that are known, and probabilities."""
        row: Row = {}
        for key, field in (('gt', self.target_of(sample)), ('prob', f'{self.task}_score')):
            values = sample[field].tolist() if field in sample else []
            names = self.output_names(sample, len(values)) if values else []
            row |= {f'{key}_{name}': v for name, v in zip(names, values, strict=True) if not math.isnan(v)}
        return row

    def summarize(self, rows: list[Row]) -> dict[str, float]:
        """AUC and AP of each label, and the means."""
        names = dict.fromkeys(key.removeprefix('prob_') for row in rows for key in row if key.startswith('prob_'))
        areas: dict[str, dict[str, float]] = {'AUC': {}, 'AP': {}}
        for name in names:
            judged = [row for row in rows if f'gt_{name}' in row and f'prob_{name}' in row]
            if judged:
                positive = np.array([row[f'gt_{name}'] > 0.5 for row in judged])
                scores = np.array([row[f'prob_{name}'] for row in judged])
                two_sided = 0 < positive.sum() < positive.size
                areas['AUC'][name] = float(roc_auc_score(positive, scores)) if two_sided else math.nan
                areas['AP'][name] = binary_average_precision(positive, scores)
        if not areas['AUC']:
            return {}
        if any(map(math.isnan, areas['AUC'].values())):
            warn_undefined('score of a label that no image has, or all have', 'its mean')
        means = {'AUC_mean': mean_of_defined(areas['AUC'].values()), 'mAP': mean_of_defined(areas['AP'].values())}
        return {**{f'{area}_{name}': v for area, by_name in areas.items() for name, v in by_name.items()}, **means}


def warn_undefined(what: str, mean: str) -> None:
    """Log that a value is undefined on this set of images, and left out of a mean."""
    print_log(f'The {what} is undefined (nan) and left out of {mean}.', logger='current', level=logging.WARNING)
