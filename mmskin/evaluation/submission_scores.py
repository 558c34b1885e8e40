"""Scoring a submission to the ISIC-2017 challenge offline, as its own scorer did.

Source: ``Python/scoreP1.py``, ``scoreP3.py`` and ``scoreCommon.py`` of 2017 in the history of
https://github.com/ImageMarkup/isic-challenge-scoring. It passed over what a submission held too much; here that is an
error, since it is mostly a sign of the wrong folder.
"""

import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_curve

from mmskin.datasets.isic2017 import SPLITS, index_masks, listed
from mmskin.datasets.tables import CLASSES, read_labels
from mmskin.errors import MissingFile, Mistake
from mmskin.evaluation.isic2017 import CATEGORIES, binary_scores
from mmskin.evaluation.per_image import mean_of_defined
from mmskin.evaluation.segmentation import mean_over_images, segmentation_scores
from mmskin.evaluation.submission import MASKS, TABLE
from mmskin.files import markdown_table, number_in, read_cells
from mmskin.readers.images import open_image, read_file
from mmskin.readers.masks import read_levels, read_mask

SENSITIVITIES = (0.82, 0.89, 0.95)
Scores = dict[str, float]


def score_submission(submission: str | Path, data_root: str | Path, split: str = 'test') -> dict[str, Scores]:
    """Score the parts that a submission has.

    Args:
        submission: a folder with ``Part1/<image id>_segmentation.png``, ``Part3.csv``, or both.
        data_root: the folder with the split's ``..._Part1_GroundTruth`` and ``..._Part3_GroundTruth.csv``.
        split: 'train', 'val' or 'test'.

    Returns:
        Scores under 'segmentation', and under 'melanoma', 'seborrheic_keratosis' and 'mean', as far as submitted.

    Raises:
        MissingFile: if the submission has neither part, or the ground truth of one is missing.
        Mistake: if images are missing or too many, a mask is of another size than the true one or no mask of 0 and
            255, or a probability is outside [0, 1]. The message names the file.
    """
    masks, table, truth = Path(submission, MASKS), Path(submission, TABLE), Path(data_root, SPLITS[split])
    if not masks.is_dir() and not table.is_file():
        raise MissingFile(f'{submission} has neither {MASKS}/ nor {TABLE}; tools/submit.py writes them.')
    scores = {'segmentation': score_masks(masks, Path(f'{truth}_Part1_GroundTruth'))} if masks.is_dir() else {}
    return scores | (score_table(table, Path(f'{truth}_Part3_GroundTruth.csv')) if table.is_file() else {})


def score_masks(pred_dir: Path, gt_dir: Path) -> Scores:
    """Part 1: the mean scores over images. Only one pair of masks is in memory at a time."""
    truths, masks = index_masks(gt_dir), index_masks(pred_dir)
    check_ids(masks, truths, pred_dir, gt_dir)
    return mean_over_images([score_pair(masks[image_id], gt) for image_id, gt in truths.items()])


def score_pair(pred: Path, gt: Path) -> Scores:
    """The scores of one mask."""
    submitted, truth = read_submitted_mask(pred), read_mask(gt).astype(bool)
    try:
        return segmentation_scores(submitted, truth)
    except ValueError as error:  # of another size
        raise Mistake(f'{pred}: {error}') from error


def read_submitted_mask(path: Path) -> np.ndarray:
    """A submitted mask (H, W), true on the lesion."""
    levels = read_levels(path)
    with open_image(read_file(path)) as image:
        if image.mode != 'L':  # as the official scorer wants it
            raise Mistake(f'{path}: an image of mode {image.mode}; write one channel of 8 bits')
    if np.count_nonzero(levels) != np.count_nonzero(levels == 255):
        raise Mistake(f'{path}: holds the values {np.unique(levels)[:8]}; write 0 off the lesion and 255 on it')
    return levels == 255


def score_table(path: Path, gt_path: Path) -> dict[str, Scores]:
    """Part 3: the scores of each category, and their means over the two."""
    labels = {image_id: label for image_id, label in read_labels(gt_path).items() if label is not None}
    rows = read_submitted_table(path)
    check_ids(rows, labels, path, gt_path)
    truth, probabilities = np.array([*labels.values()]), np.array([rows[image_id] for image_id in labels])
    scores = {
        name: category_scores(truth == CLASSES.index(name), probabilities[:, column])
        for column, name in enumerate(CATEGORIES)
    }
    means = {key: mean_of_defined(scores[name][key] for name in CATEGORIES) for key in scores[CATEGORIES[0]]}
    return {**scores, 'mean': means}


def category_scores(positive: np.ndarray, probabilities: np.ndarray) -> Scores:
    """What the official scorer gives for one class against the rest."""
    return {
        **binary_scores(positive, probabilities),
        'AC': float(np.mean(positive == (probabilities > 0.5))),
        **{f'specificity@{at:.2f}': specificity_at(positive, probabilities, at) for at in SENSITIVITIES},
    }


def specificity_at(positive: ArrayLike, scores: ArrayLike, sensitivity: float) -> float:
    """Specificity at the first threshold, from above, with this sensitivity; nan if all images are on one side."""
    if np.unique(positive).size < 2:
        return math.nan
    false_positive_rates, true_positive_rates, _ = roc_curve(positive, scores)
    return float(1 - false_positive_rates[np.argmax(true_positive_rates >= sensitivity)])


def read_submitted_table(path: Path) -> dict[str, tuple[float, float]]:
    """The two probabilities of each image; a first line with the columns' names is passed over.

    Raises:
        Mistake: if the file is not UTF-8 text, a line has not three cells, an id occurs twice, or a probability is
            outside [0, 1].
    """
    rows: dict[str, tuple[float, float]] = {}
    for number, cells in read_cells(path):
        if number == 1 and tuple(cells[1:]) == CATEGORIES:
            continue
        where = f'{path}, line {number}'
        if len(cells) != 3:
            raise Mistake(f'{where} has {len(cells)} cells; write image_id,{",".join(CATEGORIES)}.')
        if cells[0] in rows:
            raise Mistake(f'{where}: the id {cells[0]} occurs twice; keep one row.')
        rows[cells[0]] = (probability(cells[1], where), probability(cells[2], where))
    return rows


def probability(cell: str, where: str) -> float:
    """The number in a cell."""
    try:
        value = number_in(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Mistake(f'{where}: {cell!r} is not a probability; write a number from 0 to 1.')
    return value


def check_ids(submitted: Collection[str], expected: Collection[str], path: Path, gt_path: Path) -> None:
    """Raise unless the same images are in both."""
    if missing := set(expected) - set(submitted):
        raise Mistake(f'{path} lacks {listed(missing)} of {gt_path}; predict for every image.')
    if extra := set(submitted) - set(expected):
        raise Mistake(f'{path} holds {listed(extra)} that are not in {gt_path}; is this the right split?')


def scores_tables(scores: dict[str, Scores]) -> str:
    """The official table of each part, in Markdown."""
    parts = {'Part 1': {name: scores[name] for name in scores if name == 'segmentation'}}
    parts['Part 3'] = {name: scores[name] for name in scores if name != 'segmentation'}
    return '\n\n'.join(part_table(title, columns) for title, columns in parts.items() if columns)


def part_table(title: str, columns: dict[str, Scores]) -> str:
    """One row for each score, one column for each entry."""
    keys = next(iter(columns.values()))
    rows = [[key, *(f'{column[key]:.4f}' for column in columns.values())] for key in keys]
    return markdown_table([title, *columns], rows)
