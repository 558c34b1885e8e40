"""Rates of gates beside what a test found of the same images."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import FEWEST, NUM_RESAMPLES, Interval, image_counts, interval, weighted_mean

__all__ = ['GateTable', 'Group', 'correlations', 'groups', 'read_gates', 'write_rates']


@dataclass(frozen=True)
class GateTable:
    """What was recorded of a test set's N images.

    Attributes:
        tested: what the test found of them.
        img_paths: the image files.
        maps: means over channels (N, h, w) by block and route.
    """

    tested: PerImageTable
    img_paths: list[str]
    maps: dict[str, np.ndarray]

    @property
    def rates(self) -> dict[str, np.ndarray]:
        """The mean rate of each image (N,), by block and route; of what, the operator's ``quantity`` says."""
        return {name: maps.astype(np.float64).mean(axis=(1, 2)) for name, maps in self.maps.items()}

    @property
    def largeness(self) -> dict[str, np.ndarray]:
        """What rates are compared with, (N,) each: lesion size and JA, as far as the test has them."""
        values = {'lesion size': self.tested.lesion_share, 'JA': self.tested.column(self.tested.outline, 'JA')}
        return {name: value for name, value in values.items() if not np.isnan(value).all()}


class Group(NamedTuple):
    """The mean rate of a route over some of the images, with its bootstrap interval; nan on too few for one."""

    route: str
    name: str
    num_images: int
    mean: float
    ends: Interval


def read_gates(recorded: str | Path, folder: str | Path) -> GateTable:
    """Join what ``GateRecorder`` wrote with the table in the folder of the same test."""
    tested = PerImageTable.read(folder)
    with np.load(recorded) as file:
        arrays = dict(file)
    names, paths = arrays.pop('image_id').tolist(), arrays.pop('img_path').tolist()
    places = {image_id: index for index, image_id in enumerate(names)}
    order = [places[image_id] for image_id in tested.image_ids]
    maps = {name: values[order] for name, values in arrays.items()}
    return GateTable(tested, [paths[index] for index in order], maps)


def write_rates(path: str | Path, table: GateTable) -> None:
    """One CSV row per image: its rates, and what the test found of it."""
    columns = {f'rate/{name}': values for name, values in table.rates.items()} | table.tested.columns
    PerImageTable(table.tested.image_ids, columns).write(path)


def members(tested: PerImageTable) -> dict[str, np.ndarray]:
    """Which images (N,) belong to each group: all, each true class, right and wrong diagnoses, small and large."""
    found = {'all images': np.ones(len(tested), bool)}
    found |= {name: tested.labels == index for index, name in enumerate(tested.classes)}
    found |= {'right diagnosis': tested.right == 1, 'wrong diagnosis': tested.right == 0}
    found |= {f'{size} lesions': group for size, group in tested.size_groups.items() if size != 'medium'}
    return {name: inside for name, inside in found.items() if inside.any()}


def groups(table: GateTable) -> list[Group]:
    """The mean rate of every route in every group of images, with 95 % bootstrap intervals over images."""
    counts = image_counts(len(table.tested), NUM_RESAMPLES, np.random.default_rng(0))
    return [
        summary(route, name, rates, inside, counts)
        for route, rates in table.rates.items()
        for name, inside in members(table.tested).items()
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
        for name, values in table.largeness.items():
            defined = ~np.isnan(values)
            if defined.sum() > 2:
                result = spearmanr(rates[defined], values[defined])
                found.append((route, name, float(result.statistic), float(result.pvalue)))
    return found
