"""Calibrating the class probabilities of a test: one temperature, fitted on other images."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from mmskin.datasets.isic2017 import listed
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import NOTE, PerImageTable, read_companion

TINY = float(np.finfo(np.float32).tiny)  # a probability of 0 is one that float32 could not hold
BOUNDS = 0.05, 20.0  # of a temperature; at an end the images leave it undetermined, as when all are right


class Calibration(NamedTuple):
    """A temperature, and the mean negative log-likelihood of the images that it was fitted on."""

    temperature: float
    nll_before: float
    nll_after: float
    num_images: int
    source: str


def fit_calibration(
    path: str | Path, tested: PerImageTable, about: Mapping[str, Any] = MappingProxyType({})
) -> Calibration:
    """Fit the temperature on another test's ``per_image.csv``, such as that of the validation split.

    Args:
        path: The table, or its folder.
        tested: The reported test.
        about: What the reported test noted of itself.
    """
    note = (Path(path) if Path(path).is_dir() else Path(path).parent) / NOTE
    other = read_companion(note) if note.is_file() else {}
    for part in ('weights', 'test-time augmentation'):
        if {part} <= about.keys() & other.keys() and about[part] != other[part]:
            raise Mistake(
                f'{path} is a test with other {part} than the reported one ({other[part][:16]}, {about[part][:16]}); '
                'fit the temperature on a test that differs in its images alone'
            )
    table = PerImageTable.read(path).of(tested.diagnosis)
    if shared := set(table.image_ids) & set(tested.image_ids):
        raise Mistake(f'{path} holds {listed(shared)} of the reported test; fit the temperature on other images')
    if not tested.classes or table.classes != tested.classes:
        raise Mistake(
            f'{path} has the classes {[*table.classes]}, the reported test {[*tested.classes]}; '
            'give the per_image.csv of the same network on the validation split'
        )
    known = ~np.isnan(table.labels) & ~np.isnan(table.scores).any(axis=1)
    if not known.any():
        raise Mistake(f'{path} has no image with a label and a prediction; a temperature needs some')
    labels, scores = table.labels[known], table.scores[known]
    is_odd = (np.abs(scores - 0.5) > 0.501).any(axis=1)  # outside of 0 to 1, but for rounding
    is_odd |= ~np.isin(labels, range(len(table.classes)))
    if is_odd.any():
        raise Mistake(
            f'{path}: {np.array(table.image_ids)[known][is_odd][0]} has the label {labels[is_odd][0]:g} and the '
            f'probabilities {scores[is_odd][0].tolist()}; give the table as mmskin test wrote it'
        )
    temperature = fit_temperature(scores, labels)
    before, after = (negative_log_likelihood(scaled(scores, at), labels) for at in (1.0, temperature))
    return Calibration(temperature, before, after, len(labels), Path(path).as_posix())


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature within ``BOUNDS`` that makes the true labels (N,) most likely.

    Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599.
    """
    low, high = np.log(BOUNDS)
    best = minimize_scalar(
        lambda log: negative_log_likelihood(scaled(scores, np.exp(log)), labels), bounds=(low, high), method='bounded'
    )
    return float(np.exp(best.x))


def scaled(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, K) as they are with logits divided by ``temperature``.

    The logarithm of probabilities is the logits but for a constant in each row, which softmax does not see.
    """
    return softmax(np.log(np.maximum(scores, TINY)) / temperature, axis=1)


def negative_log_likelihood(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean of -ln of the true class's probability."""
    true = scores[np.arange(len(labels)), labels.astype(int)]
    return float(-np.log(np.maximum(true, TINY)).mean())
