"""Whether probabilities are true to their word, and temperature scaling.

Both after Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from mmskin.datasets.isic2017 import listed
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable
from mmskin.files import write_text

NUM_BINS = 15
TINY = float(np.finfo(np.float32).tiny)  # a probability of 0 is one that float32 could not hold
BOUNDS = 0.05, 20.0  # of a temperature; at an end the images leave it undetermined, as when all are right


class Bins(NamedTuple):
    """Images by the probability of their predicted class: (NUM_BINS,) each, nan for the means of an empty bin."""

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


class Calibration(NamedTuple):
    """A temperature, and the mean negative log-likelihood of the images that it was fitted on."""

    temperature: float
    nll_before: float
    nll_after: float
    num_images: int
    source: str


def bin_confidences(scores: np.ndarray, labels: np.ndarray) -> Bins:
    """Sort images with scores (N, K) and true labels (N,) into ``NUM_BINS`` bins of equal width, closed above."""
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(index, minlength=NUM_BINS)
    filled = np.where(counts > 0, counts, np.nan)
    sums = [np.bincount(index, weights, NUM_BINS) for weights in (confidence, right.astype(float))]
    return Bins(counts, *(total / filled for total in sums))


def expected_calibration_error(bins: Bins) -> float:
    """The expected calibration error: the mean over images of the gap between confidence and accuracy of their bin."""
    return float(np.nansum(bins.counts * np.abs(bins.accuracy - bins.confidence)) / bins.counts.sum())


def negative_log_likelihood(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean of -ln of the true class's probability."""
    true = scores[np.arange(len(labels)), labels.astype(int)]
    return float(-np.log(np.maximum(true, TINY)).mean())


def scaled(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, K) as they are with logits divided by ``temperature``.

    The logarithm of probabilities is the logits but for a constant in each row, which softmax does not see.
    """
    return softmax(np.log(np.maximum(scores, TINY)) / temperature, axis=1)


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature within ``BOUNDS`` that makes the true labels (N,) most likely."""
    low, high = np.log(BOUNDS)
    found = minimize_scalar(
        lambda log: negative_log_likelihood(scaled(scores, np.exp(log)), labels), bounds=(low, high), method='bounded'
    )
    return float(np.exp(found.x))


def fit_on(path: str | Path, evaluation: PerImageTable) -> Calibration:
    """Fit the temperature on another test's ``per_image.csv``, such as that of the validation split.

    Raises:
        Mistake: if an image is among those of ``evaluation``, or no image has a label and this network's classes.
    """
    table = PerImageTable.read(path).of(evaluation.diagnosis)
    if shared := set(table.image_ids) & set(evaluation.image_ids):
        raise Mistake(f'{path} holds {listed(shared)} of the reported test; fit the temperature on other images.')
    if not evaluation.classes or table.classes != evaluation.classes:
        raise Mistake(
            f'{path} has the classes {[*table.classes]}, the reported test {[*evaluation.classes]}; '
            'give the per_image.csv of the same network on the validation split.'
        )
    labels, scores = table.labels, table.scores
    known = ~np.isnan(labels) & ~np.isnan(scores).any(axis=1)
    if not known.any():
        raise Mistake(f'{path} has no image with a label and a prediction; a temperature needs some.')
    return calibrate(scores[known], labels[known], Path(path).as_posix())


def calibrate(scores: np.ndarray, labels: np.ndarray, source: str) -> Calibration:
    """Fit, and say what it changed."""
    temperature = fit_temperature(scores, labels)
    before, after = (negative_log_likelihood(scaled(scores, at), labels) for at in (1.0, temperature))
    return Calibration(temperature, before, after, len(labels), source)


def write_temperature(path: str | Path, calibration: Calibration) -> None:
    """Write the temperature and what it was fitted on as JSON."""
    write_text(path, json.dumps(calibration._asdict(), indent=2) + '\n')
