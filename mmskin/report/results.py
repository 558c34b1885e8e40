"""The numbers of a report."""

from functools import partial

import numpy as np

from mmskin.drawing import readable
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import (
    AREAS,
    Estimate,
    Measure,
    Metric,
    estimate,
    mean_of,
    mean_over,
    weighted_mean,
    weighted_specificity,
)
from mmskin.evaluation.submission_scores import SENSITIVITIES, category_scores
from mmskin.report.figures import THRESHOLD

ALL = 'all images'
Groups = dict[str, np.ndarray]


def has_challenge(evaluation: PerImageTable) -> bool:
    """Whether the challenge's two categories are among the classes, and any image can be judged."""
    return set(CATEGORIES) <= set(evaluation.classes) and bool(evaluation.judged.any())


def headline(evaluation: PerImageTable) -> dict[str, Estimate]:
    """The metrics that a paper would quote, those of ``results.json`` by their keys there."""
    measures = classification_measures(evaluation) if evaluation.classes else {}
    return estimate(measures | overlap_measures(evaluation))


def classification_measures(evaluation: PerImageTable) -> dict[str, Measure]:
    """Accuracy, mAP, mean AUC, and that of the challenge."""
    task = evaluation.diagnosis
    sets = {'mean AUC of the classes': evaluation.classes}
    if set(CATEGORIES) <= set(evaluation.classes):
        sets = {f'{task}/AUC_mean': CATEGORIES} | sets
    precisions = [area_metric(evaluation, 'AP', name) for name in evaluation.classes]
    return {
        f'{task}/AC': mean_over(evaluation.right),
        f'{task}/mAP': Measure(mean_of(precisions), evaluation.judged),
        **{
            key: Measure(mean_of([area_metric(evaluation, 'AUC', name) for name in names]), evaluation.judged)
            for key, names in sets.items()
        },
    }


def overlap_measures(evaluation: PerImageTable) -> dict[str, Measure]:
    """The means of the masks' scores over images, and of JA with 0 below the threshold of 2018."""
    if not evaluation.overlap:
        return {}
    jaccard = evaluation.overlap['JA']
    thresholded = np.where(jaccard < THRESHOLD, 0, jaccard)
    scores = {f'{evaluation.outline}/{key}': mean_over(values) for key, values in evaluation.overlap.items()}
    return scores | {f'JA, 0 below {THRESHOLD}': mean_over(thresholded)}


def area_metric(evaluation: PerImageTable, area: str, name: str) -> Metric:
    """AUC or AP of a class against the rest, on the judged images."""
    return partial(AREAS[area], *evaluation.one_against_rest(name))


def class_areas(evaluation: PerImageTable, area: str) -> dict[str, Estimate]:
    """AUC or AP of each class against the rest."""
    judged = evaluation.judged
    return estimate({name: Measure(area_metric(evaluation, area, name), judged) for name in evaluation.classes})


def class_results(evaluation: PerImageTable) -> dict[str, dict[str, Estimate]]:
    """Recall and precision by class."""
    sides = {'recall': evaluation.labels, 'precision': evaluation.predicted}
    groups = {
        (name, side): values == index for side, values in sides.items() for index, name in enumerate(evaluation.classes)
    }
    found = estimate({key: mean_over(evaluation.right, group) for key, group in groups.items()})
    return {name: {side: found[name, side] for side in sides} for name in evaluation.classes}


def challenge_table(evaluation: PerImageTable) -> dict[str, dict[str, Estimate]]:
    """The official scorer's table: by score, and by category and their mean.

    The values are the official ones; the resamples say how sure they are.
    """
    columns = {name: challenge_metrics(*evaluation.one_against_rest(name)) for name in CATEGORIES}
    scores = list(columns[CATEGORIES[0]])
    metrics = {(score, name): column[score] for name, column in columns.items() for score in scores}
    metrics |= {(score, 'mean'): mean_of([columns[name][score] for name in CATEGORIES]) for score in scores}
    found = estimate({key: Measure(metric, evaluation.judged) for key, metric in metrics.items()})
    official = {name: category_scores(*evaluation.one_against_rest(name)) for name in CATEGORIES}
    found |= {(s, n): found[s, n]._replace(value=official[n][s]) for s in scores for n in CATEGORIES}
    return {score: {name: found[score, name] for name in (*CATEGORIES, 'mean')} for score in scores}


def challenge_metrics(positive: np.ndarray, scores: np.ndarray) -> dict[str, Metric]:
    """The official scorer's metrics by their names in ``category_scores``."""
    right = positive == (scores > 0.5)
    return {
        **{area: partial(weighted, positive, scores) for area, weighted in AREAS.items()},
        'sensitivity': partial(weighted_mean, np.where(positive, right, np.nan)),
        'specificity': partial(weighted_mean, np.where(positive, np.nan, right)),
        'AC': partial(weighted_mean, right.astype(float)),
        **{f'specificity@{at:.2f}': partial(weighted_specificity, at, positive, scores) for at in SENSITIVITIES},
    }


def size_groups(evaluation: PerImageTable) -> Groups:
    """The thirds by the lesion's share under names that give their bounds, as ``small (0.4–5.1 %)``."""
    shares = {name: 100 * evaluation.lesion_share[group] for name, group in evaluation.size_groups.items()}
    return {
        f'{name} ({share.min():.1f}–{share.max():.1f} %)': evaluation.size_groups[name]
        for name, share in shares.items()
    }


def class_groups(evaluation: PerImageTable) -> Groups:
    """The images by their true class."""
    return {readable(name): evaluation.labels == index for index, name in enumerate(evaluation.classes)}


def all_groups(evaluation: PerImageTable) -> Groups:
    """All images, then by lesion size, then by class; empty where there is nothing to measure."""
    if not (evaluation.judged.any() or evaluation.outlined.any()):
        return {}
    return {ALL: np.ones(len(evaluation), bool)} | size_groups(evaluation) | class_groups(evaluation)


def group_results(evaluation: PerImageTable, groups: Groups) -> dict[str, dict[str, Estimate]]:
    """By group and by metric."""
    values = group_values(evaluation)
    found = estimate({(g, m): mean_over(values[m], member) for g, member in groups.items() for m in values})
    return {group: {metric: found[group, metric] for metric in values} for group in groups}


def group_values(evaluation: PerImageTable) -> dict[str, np.ndarray]:
    """The metrics that are means over images: of masks and of the diagnosis, as far as any image has them."""
    overlap = {key: evaluation.overlap[key] for key in ('JA', 'DI') if evaluation.outlined.any()}
    return overlap | ({'accuracy': evaluation.right} if evaluation.judged.any() else {})
