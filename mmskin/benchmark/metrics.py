"""Metrics of a test, computed again from its per-image numbers for any resample of the images."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.statistics import weighted_auc, weighted_average_precision, weighted_mean
from mmskin.files import read_csv

Columns = dict[str, np.ndarray]
Area = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
SCORE = 'score_'
AREAS: dict[str, Area] = {'AUC': weighted_auc, 'AP': weighted_average_precision}


def read_columns(path: str | Path) -> tuple[list[str], Columns]:
    """The image ids and the columns of a ``per_image.csv``; nan where a cell is empty."""
    rows = read_csv(path)
    names = [name for name in (rows[0] if rows else ()) if name != 'image_id']
    columns = {name: np.array([float(row[name] or 'nan') for row in rows]) for name in names}
    return [row['image_id'] for row in rows], columns


def resampled_metric(name: str, columns: Columns, counts: np.ndarray, classes: Sequence[str] = ()) -> np.ndarray | None:
    """The metric ``name`` in each resample of the images.

    Args:
        name: a key of ``results.json``. A metric that is a column of its own is the mean of that column; of the others
            accuracy, average precision and AUC are known.
        columns: arrays (N,).
        counts: how often each image is drawn, (B, N).
        classes: their names in the order of the labels, if known; see ``class_order``.

    Returns:
        An array (B,), or None if the metric does not follow from these columns.
    """
    if name in columns:
        return weighted_mean(columns[name], counts)
    prefix, _, key = name.partition('/')
    own = {column.removeprefix(f'{prefix}/'): columns[column] for column in columns if column.startswith(f'{prefix}/')}
    if key == 'AC' and {'gt_label', 'pred_label'} <= own.keys():
        return weighted_mean(agreement(columns, prefix), counts)
    order = class_order(own, classes)
    area, kinds = area_and_kinds(key, order)
    if area in AREAS and order and {*kinds} <= {*order} and 'gt_label' in own:
        return mean_area(AREAS[area], {kind: order.index(kind) for kind in kinds}, own, counts)
    return None


def area_and_kinds(key: str, order: Sequence[str]) -> tuple[str, Sequence[str]]:
    """What a metric such as 'mAP', 'AUC_mean' or 'AP_nevus' is the mean of: an area, and the classes."""
    if key == 'mAP':
        return 'AP', order
    area, _, kind = key.partition('_')
    return area, CATEGORIES if kind == 'mean' else (kind,)


def class_order(own: Columns, classes: Sequence[str] = ()) -> Sequence[str]:
    """The classes of the columns ``score_<class>``, sorted by name, in the order of their labels.

    Args:
        own: the columns of one task.
        classes: the order if it is known. Otherwise it is that of this project, or of numbers, or what the predicted
            labels tell.

    Returns:
        The names, or none if their order remains unknown.
    """
    names = [column.removeprefix(SCORE) for column in own if column.startswith(SCORE)]
    for order in (classes, CLASSES, [str(label) for label in range(len(names))], order_by_predictions(own, names)):
        if sorted(order) == sorted(names):
            return order
    return ()


def order_by_predictions(own: Columns, names: Sequence[str]) -> Sequence[str]:
    """For each label that is predicted the class that has the highest score then."""
    if not names or 'pred_label' not in own:
        return ()
    likeliest = np.argmax([own[f'{SCORE}{name}'] for name in names], axis=0)
    chosen = [likeliest[own['pred_label'] == label] for label in range(len(names))]
    return [names[int(np.bincount(images).argmax())] for images in chosen if len(images)]


def agreement(columns: Columns, prefix: str = 'cls') -> np.ndarray:
    """1 where the predicted label is right, 0 where it is wrong, nan where there is none to compare with."""
    labels, predicted = columns[f'{prefix}/gt_label'], columns[f'{prefix}/pred_label']
    return np.where(np.isnan(labels) | np.isnan(predicted), np.nan, labels == predicted)


def mean_area(area: Area, kinds: dict[str, int], own: Columns, counts: np.ndarray) -> np.ndarray:
    """The mean of an area over classes, each with its label, against the rest; undefined ones are left out."""
    judged = ~np.isnan(own['gt_label']) & ~np.isnan(own[f'{SCORE}{next(iter(kinds))}'])
    labels, drawn = own['gt_label'][judged], counts[:, judged]
    areas = [area(labels == label, own[f'{SCORE}{kind}'][judged], drawn) for kind, label in kinds.items()]
    return np.ma.masked_invalid(areas).mean(axis=0).filled(np.nan)
