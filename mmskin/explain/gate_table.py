"""Rates of gates beside what a test found of the same images."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from mmskin.benchmark.metrics import Columns, read_columns
from mmskin.evaluation.estimates import FEWEST, NUM_RESAMPLES
from mmskin.evaluation.statistics import Interval, image_counts, interval, weighted_mean
from mmskin.files import write_csv

__all__ = ['GateTable', 'Group', 'correlations', 'groups', 'read_gates', 'write_rates']

LARGENESS = {'seg/lesion_share': 'lesion size', 'seg/JA': 'JA'}


@dataclass(frozen=True)
class GateTable:
    """What was recorded of a test set's N images.

    Attributes:
        image_ids: sorted.
        img_paths: the image files.
        maps: means over channels (N, h, w) by block and route.
        columns: the test's ``per_image.csv``, arrays (N,).
        classes: names of the diagnoses, in the order of their labels.
    """

    image_ids: list[str]
    img_paths: list[str]
    maps: dict[str, np.ndarray]
    columns: Columns
    classes: list[str]

    @property
    def rates(self) -> dict[str, np.ndarray]:
        """The mean rate of each image (N,), by block and route; of what, the operator's ``quantity`` says."""
        return {name: maps.astype(np.float64).mean(axis=(1, 2)) for name, maps in self.maps.items()}


class Group(NamedTuple):
    """The mean rate of a route over some of the images, with its bootstrap interval; nan on too few for one."""

    route: str
    name: str
    num_images: int
    mean: float
    ends: Interval


def read_gates(recorded: str | Path, per_image: str | Path) -> GateTable:
    """Join what ``GateRecorder`` wrote with the per-image table of the same test."""
    image_ids, columns = read_columns(per_image)
    with np.load(recorded) as file:
        arrays = dict(file)
    names, paths = arrays.pop('image_id').tolist(), arrays.pop('img_path').tolist()
    order = [names.index(image_id) for image_id in image_ids]
    classes = arrays.pop('classes').tolist()
    maps = {name: values[order] for name, values in arrays.items()}
    return GateTable(image_ids, [paths[index] for index in order], maps, columns, classes)


def write_rates(path: str | Path, table: GateTable) -> None:
    """One CSV row per image: its rates, and what the test found of it."""
    columns = {f'rate/{name}': values for name, values in table.rates.items()} | table.columns
    cells = [[None if np.isnan(value) else float(value) for value in values] for values in columns.values()]
    write_csv(path, [['image_id', *columns], *zip(table.image_ids, *cells, strict=True)])


def members(table: GateTable) -> dict[str, np.ndarray]:
    """Which images (N,) belong to each group: all, each true class, right and wrong diagnoses, thirds by size."""
    found = {'all images': np.ones(len(table.image_ids), bool)}
    columns = table.columns
    if 'cls/gt_label' in columns:
        truth = columns['cls/gt_label']
        found |= {name: truth == index for index, name in enumerate(table.classes)}
        known = ~np.isnan(truth)
        right = truth == columns['cls/pred_label']
        found |= {'right diagnosis': known & right, 'wrong diagnosis': known & ~right}
    if 'seg/lesion_share' in columns:
        share = columns['seg/lesion_share']
        low, high = np.nanquantile(share, [1 / 3, 2 / 3])
        found |= {'small lesions': share <= low, 'large lesions': share > high}
    return {name: inside for name, inside in found.items() if inside.any()}


def groups(table: GateTable) -> list[Group]:
    """The mean rate of every route in every group of images, with 95 % bootstrap intervals over images."""
    counts = image_counts(len(table.image_ids), NUM_RESAMPLES, np.random.default_rng(0))
    return [
        summary(route, name, rates, inside, counts)
        for route, rates in table.rates.items()
        for name, inside in members(table).items()
    ]


def summary(route: str, name: str, rates: np.ndarray, inside: np.ndarray, counts: np.ndarray) -> Group:
    """One group's mean and interval."""
    number = int(inside.sum())
    ends = interval(weighted_mean(np.where(inside, rates, np.nan), counts)) if number >= FEWEST else (np.nan, np.nan)
    return Group(route, name, number, float(rates[inside].mean()), ends)


def correlations(table: GateTable) -> list[tuple[str, str, float, float]]:
    """Spearman's rank correlation of each route's rate with lesion size and JA: (route, with, rho, p)."""
    found = []
    for route, rates in table.rates.items():
        for column, name in LARGENESS.items():
            values = table.columns.get(column, np.full(len(rates), np.nan))
            defined = ~np.isnan(values)
            if defined.sum() > 2:
                result = spearmanr(rates[defined], values[defined])
                found.append((route, name, float(result.statistic), float(result.pvalue)))
    return found
