"""Metrics of a test, computed again from its per-image numbers for any resample of the images."""

import csv
from pathlib import Path

import numpy as np

from mmskin.benchmark.statistics import weighted_auc, weighted_average_precision, weighted_mean
from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.evaluation.isic2017 import CATEGORIES

Columns = dict[str, np.ndarray]
AREAS = {'AUC': weighted_auc, 'AP': weighted_average_precision}


def read_columns(path: str | Path) -> tuple[list[str], Columns]:
    """The image ids and the columns of a ``per_image.csv``; nan where a cell is empty."""
    with open(path, newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else ()) if name != 'image_id']
    columns = {name: np.array([float(row[name] or 'nan') for row in rows]) for name in names}
    return [row['image_id'] for row in rows], columns


def resampled_metric(name: str, columns: Columns, counts: np.ndarray) -> np.ndarray | None:
    """The metric ``name`` in each resample of the images.

    Args:
        name: a key of ``results.json``. A metric that is a column of its own is the mean of that column; of the others
            accuracy, average precision and AUC are known.
        columns: arrays (N,).
        counts: how often each image is drawn, (B, N).

    Returns:
        An array (B,), or None if the metric does not follow from these columns.
    """
    if name in columns:
        return weighted_mean(columns[name], counts)
    if not {'cls/gt_label', *(f'cls/score_{kind}' for kind in CLASSES)} <= columns.keys():
        return None
    if name == 'cls/AC':
        return weighted_mean(agreement(columns), counts)
    area, _, kinds = name.removeprefix('cls/').partition('_')
    if name == 'cls/mAP':
        return mean_area('AP', CLASSES, columns, counts)
    if area in AREAS and kinds in (*CLASSES, 'mean'):
        return mean_area(area, CATEGORIES if kinds == 'mean' else (kinds,), columns, counts)
    return None


def agreement(columns: Columns) -> np.ndarray:
    """1 where the predicted label is right, 0 where it is wrong, nan where there is none to compare with."""
    labels, predicted = columns['cls/gt_label'], columns['cls/pred_label']
    return np.where(np.isnan(labels) | np.isnan(predicted), np.nan, labels == predicted)


def mean_area(area: str, kinds: tuple[str, ...], columns: Columns, counts: np.ndarray) -> np.ndarray:
    """The mean of an area over classes against the rest, undefined ones left out."""
    labelled = ~np.isnan(columns['cls/gt_label'])
    labels, drawn = columns['cls/gt_label'][labelled], counts[:, labelled]
    areas = np.ma.masked_invalid(
        [AREAS[area](labels == CLASSES.index(kind), columns[f'cls/score_{kind}'][labelled], drawn) for kind in kinds]
    )
    return areas.mean(axis=0).filled(np.nan)
