"""The tables of a report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmskin.drawing import Case, readable
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import Estimate
from mmskin.report.calibration import (
    Calibration,
    bin_confidences,
    expected_calibration_error,
    negative_log_likelihood,
    scaled,
)
from mmskin.report.results import Groups

TITLES = {
    'cls/AC': 'accuracy',
    'cls/mAP': 'mAP',
    'cls/AUC_mean': 'mean AUC of the challenge',
    'seg/JA': 'JA',
    'seg/DI': 'DI',
    'seg/AC': 'pixel AC',
    'seg/sensitivity': 'pixel sensitivity',
    'seg/specificity': 'pixel specificity',
}
Found = Mapping[str, Mapping[str, Estimate]]


class Table(NamedTuple):
    """A table; a cell is text, a number or an ``Estimate``."""

    head: list[str]
    rows: list[list[Any]]


def headline_table(found: Mapping[str, Estimate]) -> Table:
    """A row for each metric."""
    rows = [[TITLES.get(key, key), one, one.num_images] for key, one in found.items() if one.num_images]
    return Table(['metric', 'value', 'images'], rows)


def classes_table(found: Found) -> Table:
    """A row for each class."""
    rows = [[readable(name), row['recall'].num_images, *row.values()] for name, row in found.items()]
    return Table(['class', 'images', 'recall', 'precision'], rows)


def official_table(found: Found) -> Table:
    """A row for each score, a column for each category and their mean."""
    columns = list(next(iter(found.values())))
    return Table(['score', *map(readable, columns)], [[score, *row.values()] for score, row in found.items()])


def groups_table(found: Found, groups: Groups) -> Table:
    """A row for each group with its number of images, a column for each metric."""
    metrics = list(next(iter(found.values())))
    rows = [[name, int(groups[name].sum()), *row.values()] for name, row in found.items()]
    return Table(['group', 'images', *metrics], rows)


def reliability_table(evaluation: PerImageTable, calibration: Calibration | None) -> Table:
    """ECE, NLL and Brier score, as predicted and with the temperature."""
    columns = [reliability_scores(scores, labels) for scores, labels in probabilities(evaluation, calibration).values()]
    rows = [[name, *(f'{column[name]:.3f}' for column in columns)] for name in columns[0]]
    return Table(['score', *probabilities(evaluation, calibration)], rows)


def probabilities(
    evaluation: PerImageTable, calibration: Calibration | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Scores and labels of the judged images, as predicted and with the temperature."""
    scores, labels = evaluation.scores[evaluation.judged], evaluation.labels[evaluation.judged]
    found = {'as predicted': (scores, labels)}
    if calibration:
        found[f'temperature {calibration.temperature:.2f}'] = scaled(scores, calibration.temperature), labels
    return found


def reliability_scores(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How true probabilities (N, K) are to the labels (N,)."""
    truth = np.eye(scores.shape[1])[labels.astype(int)]
    return {
        'ECE': expected_calibration_error(bin_confidences(scores, labels)),
        'NLL': negative_log_likelihood(scores, labels),
        'Brier score': float(((scores - truth) ** 2).sum(axis=1).mean()),
    }


def notices(evaluation: PerImageTable, cases: Sequence[Case]) -> Iterator[str]:
    """What a reader has to know before the numbers."""
    if evaluation.classes:
        yield from diagnosis_notices(evaluation)
    else:
        yield 'This test has no classification, so the diagnosis is left out.'
    yield from picture_notices(cases)
    missing = int((~evaluation.outlined).sum())
    if missing == len(evaluation):
        yield 'This test has no images with a true and a predicted outline, so the segmentation is left out.'
    elif missing:
        yield f'{missing} of {len(evaluation)} images have no true outline; they are left out of the segmentation.'


def picture_notices(cases: Sequence[Case]) -> Iterator[str]:
    """Images that cannot be drawn any more."""
    paths = [case.img_path for case in cases if case.img_path]
    gone = [path for path in paths if not Path(path).is_file()]
    if gone:
        yield f'{len(gone)} of {len(paths)} image files are gone, {gone[0]} among them; their cases are drawn without.'


def diagnosis_notices(evaluation: PerImageTable) -> Iterator[str]:
    """Missing labels and empty classes."""
    missing = int((~evaluation.judged).sum())
    if missing:
        yield f'{missing} of {len(evaluation)} images have no class label; they are left out of the diagnosis.'
    empty = [readable(name) for index, name in enumerate(evaluation.classes) if index not in evaluation.labels]
    if empty and missing < len(evaluation):
        yield f'No image is labelled {" or ".join(empty)}; what needs one is undefined.'
