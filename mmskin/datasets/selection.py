"""Which images from elsewhere are like those of a training set."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mmskin.datasets.duplicates import THRESHOLD, Print, fingerprint, nearest


def unit(features: np.ndarray) -> np.ndarray:
    """``features`` (N, C), each at length 1; zeros stay zeros."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def mean_cosine_distance(features: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The mean over ``references`` (M, C) of each of ``features``' (N, C) cosine distance to them, (N,).

    The distance to one is 1 - u v with u and v of length 1, so the mean over all is 1 - u times the mean of v: each
    image is compared with one vector, however many references there are.
    """
    return 1 - unit(features) @ unit(references).mean(axis=0)


def nearest_candidates(
    ranked: Iterable[tuple[Path, float]], threshold: float | None, count: int | None, known: Sequence[Print] = ()
) -> Iterator[tuple[Path, float]]:
    """The candidates up to ``threshold`` and ``count``, without those that show the same as an image of ``known``.

    Args:
        ranked: file and distance of the candidates, the nearest first.
        threshold: largest distance that is taken; None takes any.
        count: how many are taken; None takes all.
        known: prints of the images of all splits. An archive holds the challenge's own images too, and a copy of a
            validation image must not be trained on.
    """
    bank = np.stack([one.detail for one in known]) if known else None
    digests = {one.digest for one in known}
    for path, distance in ranked:
        if count == 0 or (threshold is not None and distance > threshold):
            return
        if bank is None or not is_copy(path, bank, digests):
            count = count and count - 1
            yield path, distance


def is_copy(path: Path, bank: np.ndarray, digests: set[str]) -> bool:
    """Whether the image shows what one of the known images does; see ``find_pairs``."""
    print_ = fingerprint('candidates', path)
    return print_.digest in digests or 1 - float(nearest(print_.detail[None], bank).max()) <= THRESHOLD
