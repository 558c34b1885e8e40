"""Metrics with bootstrap intervals over images, all on the same resamples."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from mmskin.evaluation.statistics import divide, hits_and_misses, image_counts, interval, weighted_mean

NUM_RESAMPLES = 2000
FEWEST = 10  # resamples of fewer images than this say little about other images
CELLS = 2**21  # of a block of resamples: 16 MiB, however many images there are
Metric = Callable[[np.ndarray], np.ndarray]
Key = TypeVar('Key', bound=Hashable)


class Estimate(NamedTuple):
    """A metric and its interval; nan where it is undefined, or on too few images for an interval."""

    value: float
    low: float
    high: float
    num_images: int


class Measure(NamedTuple):
    """A metric that takes how often each image is drawn, (B, N), and the images (N,) that it is computed on."""

    metric: Metric
    used: np.ndarray

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        return self.metric(counts[:, self.used]) if self.used.any() else np.full(len(counts), np.nan)


def mean_over(values: np.ndarray, group: np.ndarray | None = None) -> Measure:
    """The mean of the defined ``values`` (N,), of all images or of a ``group`` (N,) of them."""
    used = ~np.isnan(values) if group is None else ~np.isnan(values) & group
    return Measure(partial(weighted_mean, values[used]), used)


def mean_of(metrics: Sequence[Metric]) -> Metric:
    """The mean of metrics on the same images, in each resample of those that are defined."""

    def metric(counts: np.ndarray) -> np.ndarray:
        return np.ma.masked_invalid([one(counts) for one in metrics]).mean(axis=0).filled(np.nan)

    return metric


def weighted_specificity(
    sensitivity: float, positive: np.ndarray, scores: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Specificity at the first threshold, from above, with this sensitivity: (B,); nan where one side is missing."""
    tp, fp = hits_and_misses(positive, scores, counts)
    first = np.argmax(tp / np.maximum(tp[:, -1:], 1) >= sensitivity, axis=1)
    above = np.take_along_axis(fp, first[:, None], axis=1)[:, 0]
    return np.where(tp[:, -1] > 0, divide(fp[:, -1] - above, fp[:, -1]), np.nan)


def estimate(measures: Mapping[Key, Measure], num_resamples: int = NUM_RESAMPLES) -> dict[Key, Estimate]:
    """Each metric on all images, with its interval."""
    if not measures:
        return {}
    num_images = len(next(iter(measures.values())).used)
    draws: dict[Key, list[np.ndarray]] = {key: [] for key in measures}
    for counts in blocks(num_images, num_resamples):
        for key, measure in measures.items():
            draws[key].append(measure(counts))
    everything = np.ones((1, num_images))
    return {
        key: with_interval(float(measure(everything)[0]), np.concatenate(draws[key]), int(measure.used.sum()))
        for key, measure in measures.items()
    }


def blocks(num_images: int, num_resamples: int) -> Iterator[np.ndarray]:
    """Resamples of the images, a bounded number of cells at a time."""
    rng, size = np.random.default_rng(0), max(1, CELLS // num_images)
    for start in range(0, num_resamples, size):
        yield image_counts(num_images, min(size, num_resamples - start), rng)


def with_interval(value: float, draws: np.ndarray, num_images: int) -> Estimate:
    """The estimate of a metric whose values in the resamples are ``draws`` (B,)."""
    enough = num_images >= FEWEST and not math.isnan(value)
    return Estimate(value, *(interval(draws) if enough else (math.nan, math.nan)), num_images)
