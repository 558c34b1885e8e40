"""Metrics on resamples of the images: bootstrap intervals, and those of differences paired by image.

All methods are judged on the same draws of images, so a difference is paired: what makes an image hard for both
cancels out (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8; for classifiers
https://www.jmlr.org/papers/v7/demsar06a.html on why pairing matters). Two intervals answer two questions:

- images only, each seed's network as it is and their metrics averaged: would these networks differ on other images?
  Percentiles of the resamples.
- images and seeds: would the methods differ, trained again and tested on other images? Seeds and images are crossed
  (each network sees each image), as are readers and cases in radiology, whose method this is: Obuchowski and Rockette,
  https://doi.org/10.1080/03610919508813243, with the degrees of freedom of Hillis, https://doi.org/10.1002/sim.2532,
  and for two methods with seeds of their own, https://doi.org/10.1002/sim.5926. It is a difference ± Student's t times
  its standard error: what seeds vary by, and the covariance over images of what different seeds find, which is the
  part that all seeds share; the bootstrap estimates it. That training seeds are drawn too: Bouthillier et al.,
  https://arxiv.org/abs/2103.03098. Ours is that it reaches at least as far as that over images. What seeds vary by is
  made of their own spread and of the images' noise in each network; a few seeds that agree by chance show less than
  this noise, even nothing, as if their own spread had a negative variance. That is taken as 0, as is common for
  components of variance, and then the images alone are left.

In simulations without a difference, normal in seeds and images, the second holds 0 in 93 to 98 of 100 experiments with
three seeds or more, and in 89 or more with two. Percentiles of resampled seeds hold it in 82 to 93 with three: a few
seeds say little on their spread, which t allows for. Two methods have seeds of their own, unless they share their
networks or began with the same ones: then a seed's difference is one number. Where the same seed makes two other
methods err alike, the interval is wider than it need be. With one seed there is no second interval.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.stats import t as student

Interval = tuple[float, float]
LEVEL = 0.95
NUM_RESAMPLES = 2000
FEWEST = 10  # resamples of fewer images than this say little about other images
CELLS = 100_000  # of a block of resamples, which a processor's cache holds: four times as fast as 2 million
Metric = Callable[[np.ndarray], np.ndarray]
Key = TypeVar('Key', bound=Hashable)


class Difference(NamedTuple):
    """A difference between two methods, with its intervals.

    ``images_and_seeds`` holds ``images``; it is None with a single seed.
    """

    value: float
    images: Interval
    images_and_seeds: Interval | None


def image_counts(
    num_images: int, num_resamples: int, rng: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """How often each image is in each resample: (num_resamples, num_images), each row a draw with replacement.

    With ``groups``, the group's number (N,) of each image, from 0, they are drawn whole: images of one lesion or
    patient err alike, and count for less than as many of others.
    """
    count = num_images if groups is None else int(groups.max()) + 1
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=num_resamples).astype(np.float64)
    return drawn if groups is None else drawn[:, groups]


def weighted_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of the defined ``values`` (N,) in each resample of ``counts`` (B, N): (B,)."""
    defined = ~np.isnan(values)
    return divide(counts[:, defined] @ values[defined], counts[:, defined].sum(axis=1))


def weighted_auc(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The area under the ROC curve in each resample, ties counting half: (B,); nan where one side is missing."""
    tp, fp = hits_and_misses(positive, scores, counts)
    area = ((tp[:, 1:] + tp[:, :-1]) / 2 * np.diff(fp)).sum(axis=1)
    return divide(area, tp[:, -1] * fp[:, -1])


def weighted_average_precision(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The staircase under the precision-recall curve in each resample: (B,); nan where nothing is positive."""
    tp, fp = hits_and_misses(positive, scores, counts)
    hits, called = tp[:, 1:], (tp + fp)[:, 1:]
    area = (np.diff(tp) * np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)).sum(axis=1)
    return divide(area, tp[:, -1])


AREAS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    'AUC': weighted_auc,
    'AP': weighted_average_precision,
}


def hits_and_misses(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives (B, thresholds + 1) as the threshold falls from above all scores to below them."""
    order = np.argsort(-scores, kind='stable')
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # the last of those with one score
    drawn = counts[:, order]
    tp, fp = (np.cumsum(drawn * side, axis=1)[:, ends] for side in (positive[order], ~positive[order]))
    nothing = np.zeros((len(counts), 1))
    return np.hstack([nothing, tp]), np.hstack([nothing, fp])


def divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, nan where ``whole`` is zero."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def interval(draws: np.ndarray) -> Interval:
    """The percentile interval of ``draws``; a resample in which the metric is undefined is left out.

    Both ends are nan if it is in all of them.
    """
    if np.isnan(draws).all():  # NumPy would warn
        return math.nan, math.nan
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def difference(
    observed: tuple[np.ndarray, np.ndarray],
    resampled: tuple[np.ndarray, np.ndarray],
    paired_seeds: bool = False,
    parts: tuple[np.ndarray, np.ndarray] | None = None,
) -> Difference:
    """Compare the first method with the second.

    Args:
        observed: the metric of each method's seeds on all images: (S1,) and (S2,).
        resampled: the same in each resample of the images, which have to be the same for both: (S1, B) and (S2, B).
        paired_seeds: the seeds of both, in the same order, began with the same networks.
        parts: of each method, what the metric would be if one fold alone had the network of another seed: (F, S1) and
            (F, S2). Networks of different folds are independent trainings, so their seeds' variances add up, and F
            folds tell F times as much on how much seeds matter.
    """
    first, second = resampled
    value = float(observed[0].mean() - observed[1].mean())
    images = interval(first.mean(axis=0) - second.mean(axis=0))
    if min(len(first), len(second)) < 2:
        return Difference(value, images, None)
    one, other = parts or (observed[0][None], observed[1][None])
    if paired_seeds:
        error, freedom = standard_error([one - other], shared_variance(first - second))
    else:
        shared = shared_variance(first) + shared_variance(second) - 2 * shared_variance(first, second)
        error, freedom = standard_error([one, other], shared)
    half = float(student.ppf((1 + LEVEL) / 2, freedom)) * error
    return Difference(value, images, (min(value - half, images[0]), max(value + half, images[1])))


def shared_variance(first: np.ndarray, second: np.ndarray | None = None) -> float:
    """The mean covariance over resamples of two seeds of ``first`` (S1, B), or of one of it and one of ``second``."""
    seeds = first if second is None else np.vstack([first, second])
    covariance = np.cov(seeds[:, np.isfinite(seeds).all(axis=0)])
    if second is None:
        return float(covariance[~np.eye(len(first), dtype=bool)].mean())
    return float(covariance[: len(first), len(first) :].mean())


def standard_error(seeds: Sequence[np.ndarray], shared: float) -> tuple[float, float]:
    """The standard error of a sum of means over seeds, and its degrees of freedom.

    Args:
        seeds: for each mean the values (F, S) that it is of in each fold, which vary by seed and by how it takes the
            images. Folds vary alike, so their variances are estimated as one, with F x (S - 1) degrees of freedom.
        shared: the variance over images that all seeds share; estimated below 0, it counts as 0.
    """
    variances = np.array([values.var(axis=1, ddof=1).sum() / values.shape[1] for values in seeds])
    freedoms = [values.shape[0] * (values.shape[1] - 1) for values in seeds]
    uncertainty = sum(part**2 / freedom for part, freedom in zip(variances, freedoms, strict=True))
    total = variances.sum() + max(shared, 0)
    return float(np.sqrt(total)), float(total**2 / uncertainty) if uncertainty else math.inf


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
        return np.ma.masked_invalid([each(counts) for each in metrics]).mean(axis=0).filled(np.nan)

    return metric


def weighted_specificity(
    sensitivity: float, positive: np.ndarray, scores: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Specificity at the first threshold, from above, with this sensitivity: (B,); nan where one side is missing.

    As in the challenge's scorer, the thresholds are those of scikit-learn's ``roc_curve``, which leaves out points that
    lie amid equal steps.
    """
    tp, fp = hits_and_misses(positive, scores, counts)
    reached = tp / np.maximum(tp[:, -1:], 1) >= sensitivity
    reached[:, 2:-1] &= (np.diff(tp[:, 1:], 2) != 0) | (np.diff(fp[:, 1:], 2) != 0)
    above = np.take_along_axis(fp, np.argmax(reached, axis=1)[:, None], axis=1)[:, 0]
    return np.where(tp[:, -1] > 0, divide(fp[:, -1] - above, fp[:, -1]), np.nan)


def estimate(measures: Mapping[Key, Measure], num_resamples: int = NUM_RESAMPLES) -> dict[Key, Estimate]:
    """Each metric on all images, with its interval."""
    if not measures:
        return {}
    num_images = len(next(iter(measures.values())).used)
    draws: dict[Key, list[np.ndarray]] = {key: [] for key in measures}
    rng, size = np.random.default_rng(0), max(1, CELLS // num_images)  # in blocks, so that memory stays bounded
    for start in range(0, num_resamples, size):
        counts = image_counts(num_images, min(size, num_resamples - start), rng)
        for key, measure in measures.items():
            draws[key].append(measure(counts))
    everything = np.ones((1, num_images))
    estimates = {}
    for key, measure in measures.items():
        value, num_used = float(measure(everything)[0]), int(measure.used.sum())
        enough = num_used >= FEWEST and not math.isnan(value)
        bounds = interval(np.concatenate(draws[key])) if enough else (math.nan, math.nan)
        estimates[key] = Estimate(value, *bounds, num_used)
    return estimates
