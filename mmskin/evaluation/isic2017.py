"""The scores of the ISIC-2017 challenge, as its own scorer had them.

Source: the 2017 scripts ``Python/scoreP1.py``, ``scoreP3.py`` and ``scoreCommon.py`` in the history of
https://github.com/ImageMarkup/isic-challenge-scoring; the task is described in https://arxiv.org/abs/1710.05006.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from mmskin.errors import Mistake
from mmskin.evaluation.classification import ClassificationMetric, binary_average_precision, warn_undefined
from mmskin.evaluation.per_image import Row, mean_of_defined, numbers_in
from mmskin.evaluation.segmentation import confusion_scores
from mmskin.registry import METRICS
from mmskin.structures import names_of

CATEGORIES = ('melanoma', 'seborrheic_keratosis')
SCORES = ('AUC', 'AP', 'sensitivity', 'specificity')


def binary_scores(positive: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """AUC, AP, sensitivity and specificity of one class against the rest.

    Args:
        positive: whether each image (N,) is of the class.
        scores: its probability (N,); an image is called positive above 0.5, as in the official scorer.

    Returns:
        The four scores. nan stands for AUC if all images are on one side, for AP and sensitivity if none is positive,
        and for specificity if none is negative.
    """
    truth, scores = numbers_in(positive=positive, scores=scores)
    truth, called = truth > 0, scores > 0.5
    tp, fp = int(np.sum(truth & called)), int(np.sum(~truth & called))
    fn, tn = int(np.sum(truth & ~called)), int(np.sum(~truth & ~called))
    rates = confusion_scores(tp, fp, fn, tn)
    return {
        'AUC': float(roc_auc_score(truth, scores)) if 0 < truth.sum() < truth.size else math.nan,
        'AP': binary_average_precision(truth, scores),
        'sensitivity': rates['sensitivity'],
        'specificity': rates['specificity'],
    }


@METRICS.register_module()
class ISIC2017ClassificationMetric(ClassificationMetric):
    """Part 3 of the challenge: melanoma and seborrheic keratosis, each against the rest, and the means of the two.

    Keys are ``cls/<score>_<category>`` with score AUC, AP, sensitivity, specificity and category melanoma,
    seborrheic_keratosis, mean. The challenge was ranked by ``cls/AUC_mean``. A score that is undefined because the set
    lacks a class is nan and left out of the mean, with a warning in the log (the official scorer fails there).
    """

    def compare(self, rows: list[Row]) -> dict[str, float]:
        """The four scores of both categories and their means."""
        scores = self.score_table(rows)
        classes = list(names_of(self.dataset_meta, self.target or 'gt_label'))
        if not set(CATEGORIES) <= set(classes):
            raise Mistake(
                f"The dataset's metainfo['classes'] is {classes}, without {' or '.join(CATEGORIES)}; "
                'take ISIC2017ClassificationMetric out of the evaluator for other classes'
            )
        results = {}
        for category in CATEGORIES:
            index = classes.index(category)
            positive = np.array([row['gt_label'] == index for row in rows])
            results.update({f'{k}_{category}': v for k, v in binary_scores(positive, scores[:, index]).items()})
        if any(map(math.isnan, results.values())):
            warn_undefined('score of a category without images on both sides', 'its mean')
        means = {f'{key}_mean': mean_of_defined(results[f'{key}_{name}'] for name in CATEGORIES) for key in SCORES}
        return {**results, **means}
