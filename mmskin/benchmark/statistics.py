"""Bootstrap intervals of metrics and of their differences, paired by image.

All methods are judged on the same draws of images, so a difference is paired: what makes an image hard for both
cancels out (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8; for classifiers
https://www.jmlr.org/papers/v7/demsar06a.html on why pairing matters). Intervals are percentiles. Two of them answer two
questions:

- images only, each seed's network as it is and their metrics averaged: would these networks differ on other images?
- images and seeds, drawn independently of each other: would the methods differ, trained again and tested on other
  images? Seeds and images are crossed (each network sees each image), for which drawing rows and columns separately is
  mildly conservative and nothing exact exists (Owen, The pigeonhole bootstrap, https://doi.org/10.1214/07-AOAS122).
  That training seeds have to be drawn too: Bouthillier et al., https://arxiv.org/abs/2103.03098.

Of S seeds S - 1 are drawn: the mean of m draws has the variance s^2 (S - 1) / (S m), with s^2 the unbiased variance
of a seed, which is the wanted s^2 / S for m = S - 1; m = S would give two thirds of it for three seeds. Two methods
draw their seeds independently, unless they share their networks; where the same seed makes two methods err alike, that
is conservative. With one seed there is no second interval.
"""

from typing import NamedTuple

import numpy as np

Interval = tuple[float, float]
LEVEL = 0.95


class Difference(NamedTuple):
    """A difference between two methods, with its intervals; ``images_and_seeds`` is None with a single seed."""

    value: float
    images: Interval
    images_and_seeds: Interval | None


def image_counts(num_images: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is in each resample: (num_resamples, num_images), each row a draw with replacement."""
    chances = np.full(num_images, 1 / num_images)
    return rng.multinomial(num_images, chances, size=num_resamples).astype(np.float64)


def seed_draws(num_seeds: int, num_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Which seeds are in each resample: (num_resamples, num_seeds - 1)."""
    return rng.integers(num_seeds, size=(num_resamples, max(num_seeds - 1, 1)))


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
    found, called = tp[:, 1:], (tp + fp)[:, 1:]
    area = (np.diff(tp) * np.divide(found, called, out=np.zeros_like(found), where=called > 0)).sum(axis=1)
    return divide(area, tp[:, -1])


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


def interval(draws: np.ndarray, level: float = LEVEL) -> Interval:
    """The percentile interval of ``draws``; a resample in which the metric is undefined is left out."""
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def seed_mean(values: np.ndarray, draws: np.ndarray | None = None) -> np.ndarray:
    """The mean of a metric's ``values`` (S, B) over all seeds, or over those drawn for each resample (B, m)."""
    if draws is None:
        return values.mean(axis=0)
    return np.take_along_axis(values, draws.T, axis=0).mean(axis=0)


def difference(
    observed: tuple[np.ndarray, np.ndarray],
    resampled: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    same_networks: bool = False,
) -> Difference:
    """Compare the first method with the second.

    Args:
        observed: the metric of each method's seeds on all images: (S1,) and (S2,).
        resampled: the same in each resample of the images, which have to be the same for both: (S1, B) and (S2, B).
        rng: draws the seeds.
        same_networks: the seeds of both are the same networks, tested in two ways, and are drawn together.
    """
    first, second = resampled
    value = float(observed[0].mean() - observed[1].mean())
    images = interval(seed_mean(first) - seed_mean(second))
    if min(len(first), len(second)) < 2:
        return Difference(value, images, None)
    draws = [seed_draws(len(values), values.shape[1], rng) for values in resampled]
    if same_networks:
        draws[1] = draws[0]
    return Difference(value, images, interval(seed_mean(first, draws[0]) - seed_mean(second, draws[1])))
