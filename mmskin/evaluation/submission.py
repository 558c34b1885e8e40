"""Writing a submission to the ISIC-2017 challenge, and scoring one offline as its own scorer did."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import cv2
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from sklearn.metrics import roc_curve

from mmskin.datasets.isic2017 import MASK_SUFFIX, SPLITS, index_masks, listed
from mmskin.datasets.tables import CLASSES, read_labels
from mmskin.errors import MissingFile, Mistake
from mmskin.evaluation.isic2017 import CATEGORIES, binary_scores
from mmskin.evaluation.per_image import mean_of_defined
from mmskin.evaluation.segmentation import as_mask, mean_over_images, segmentation_scores
from mmskin.files import (
    file_key,
    markdown_table,
    number_in,
    read_cells,
    refuse_links,
    whole_file,
    write_csv,
    write_whole,
)
from mmskin.readers.images import open_image, read_file
from mmskin.readers.masks import read_levels, read_mask
from mmskin.registry import METRICS, checked

SENSITIVITIES = (0.82, 0.89, 0.95)

MASKS, TABLE = 'Part1', 'Part3.csv'


@METRICS.register_module()
class ChallengeSubmission(BaseMetric):
    """Writes what a network predicts as the 2017 challenge took it; it has no numbers of its own.

    ``Part1/<image id>_segmentation.png``, and ``Part1.zip`` with the same files: 8-bit masks, 0 or 255, of the image's
    original size. ``Part3.csv``: image id, probability of melanoma, probability of seborrheic keratosis, one line for
    each image, without a header, since the challenge's ``scoreP3.py`` read the first line as an image. A network with
    one task gives one of the two parts. No ground truth is needed.

    Each process writes the masks of its own images, so all of them need the same file system.

    Sources: https://challenge.isic-archive.com/landing/2017/42 and /44, and ``Python/scoreP1.py``, ``scoreP3.py`` in
    the history of https://github.com/ImageMarkup/isic-challenge-scoring.

    Args:
        out_dir: the submission's folder. Masks of other images in it, or a table of another network, are an error at
            the end of the test.

    Raises:
        Mistake: at the end, if no task learns ``gt_label`` or ``gt_sem_seg``.
    """

    default_prefix = 'submission'

    def __init__(self, out_dir: str = 'submission', **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_dir = Path(out_dir)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the masks of ``data_samples`` (``TaskSample.to_dict()``) and keep their probabilities."""
        refuse_links(self.out_dir / MASKS, self.out_dir)
        for sample in data_samples:
            tasks = {target: task for task, target in sample.get('targets', {}).items()}
            outline = f'{tasks.get("gt_sem_seg", "seg")}_mask'
            if outline in sample:
                mask = as_mask(sample[outline]['data'])
                grey = mask.reshape(mask.shape[-2:]).astype(np.uint8) * 255
                png = cv2.imencode('.png', grey)[1].tobytes()
                write_whole(self.out_dir / MASKS / f'{sample["image_id"]}{MASK_SUFFIX}', png)
            scores = sample.get(f'{tasks.get("gt_label", "cls")}_score')
            row = {'image_id': sample['image_id'], 'outlined': outline in sample}
            if scores is not None:
                classes = list((self.dataset_meta or {}).get('classes', ()))
                if not set(CATEGORIES) <= set(classes):
                    raise Mistake(
                        f"The dataset's metainfo['classes'] is {classes}; Part 3 of the challenge needs {CATEGORIES}"
                    )
                row |= {name: float(scores[classes.index(name)]) for name in CATEGORIES}
            self.results.append(row)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Write the table, and pack the masks when they are those of the tested images."""
        if results and not any(row['outlined'] or CATEGORIES[0] in row for row in results):
            raise Mistake(
                'nothing to submit: no task of this network learns gt_label or gt_sem_seg, the diagnosis and the '
                'outline of the challenge'
            )
        rows = sorted((row for row in results if CATEGORIES[0] in row), key=lambda row: row['image_id'])
        if rows:  # with the nine digits that tell any two of float32 apart
            cells = ([row['image_id'], *(f'{row[name]:.9g}' for name in CATEGORIES)] for row in rows)
            write_csv(self.out_dir / TABLE, cells)
        elif (self.out_dir / TABLE).exists():
            raise Mistake(
                f'{self.out_dir / TABLE} is of another network, since this one names no disease; choose an empty folder'
            )
        folder = self.out_dir / MASKS
        if folder.is_dir():
            image_ids = {row['image_id'] for row in results if row['outlined']}
            keys = Counter(map(file_key, image_ids))
            if alike := sorted(image_id for image_id in image_ids if keys[file_key(image_id)] > 1):
                raise Mistake(
                    f'the ids {" and ".join(alike[:2])} are one file on a disk that ignores capitals; rename one'
                )
            names = sorted(path.name for path in folder.iterdir())
            if strays := sorted({*names} - {f'{image_id}{MASK_SUFFIX}' for image_id in image_ids}):
                raise Mistake(
                    f'{folder / strays[0]} is not of this test set ({len(strays)} such files); choose an empty folder'
                )
            with whole_file(self.out_dir / f'{MASKS}.zip') as file, ZipFile(file, 'w', ZIP_DEFLATED) as archive:
                for name in names:
                    archive.write(folder / name, name)
        print_log(f'The submission is in {self.out_dir}.', logger='current')
        return {}


Scores = dict[str, float]


@checked
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
    if not masks.exists() and not table.exists():
        raise MissingFile(f'{submission} has neither {MASKS}/ nor {TABLE}; tools/submit.py writes them')
    scores = {'segmentation': score_masks(masks, Path(f'{truth}_Part1_GroundTruth'))} if masks.exists() else {}
    return scores | (score_table(table, Path(f'{truth}_Part3_GroundTruth.csv')) if table.exists() else {})


def score_masks(pred_dir: Path, gt_dir: Path) -> Scores:
    """Part 1: the mean scores over images. Only one pair of masks is in memory at a time."""
    truths, masks = index_masks(gt_dir), index_masks(pred_dir)
    check_ids(masks, truths, pred_dir, gt_dir)
    scores = []
    for image_id, true_path in truths.items():
        path = masks[image_id]
        levels = read_levels(path)
        with open_image(read_file(path)) as image:
            if image.mode != 'L':  # as the official scorer wants it
                raise Mistake(f'{path}: is an image of mode {image.mode}; write one channel of 8 bits')
        if np.count_nonzero(levels) != np.count_nonzero(levels == 255):
            raise Mistake(f'{path}: holds the values {np.unique(levels)[:8]}; write 0 off the lesion and 255 on it')
        truth = read_mask(true_path)
        try:
            scores.append(segmentation_scores(levels == 255, truth))
        except ValueError as error:  # of another size
            raise Mistake(f'{path}: {error}') from error
    return mean_over_images(scores)


def score_table(path: Path, gt_path: Path) -> dict[str, Scores]:
    """Part 3: the scores of each category, and their means over the two."""
    labels = {image_id: label for image_id, label in read_labels(gt_path).items() if label is not None}
    rows: dict[str, tuple[float, float]] = {}
    for number, cells in read_cells(path):
        if number == 1 and tuple(cells[1:]) == CATEGORIES:  # the columns' names
            continue
        where = f'{path}, line {number}'
        if len(cells) != 3:
            raise Mistake(f'{where} has {len(cells)} cells; write image_id,{",".join(CATEGORIES)}')
        if cells[0] in rows:
            raise Mistake(f'{where}: the id {cells[0]} occurs twice; keep one row')
        rows[cells[0]] = (probability(cells[1], where), probability(cells[2], where))
    check_ids(rows, labels, path, gt_path)
    truth, probabilities = np.array([*labels.values()]), np.array([rows[image_id] for image_id in labels])
    scores = {
        name: category_scores(truth == CLASSES.index(name), probabilities[:, column])
        for column, name in enumerate(CATEGORIES)
    }
    means = {key: mean_of_defined(scores[name][key] for name in CATEGORIES) for key in scores[CATEGORIES[0]]}
    return {**scores, 'mean': means}


def category_scores(positive: np.ndarray, probabilities: np.ndarray) -> Scores:
    """What the official scorer gives for one class against the rest.

    ``specificity@0.82``, and so on, is at the first threshold, from above, with this sensitivity; nan if all images are
    on one side.
    """
    scores = {**binary_scores(positive, probabilities), 'AC': float(np.mean(positive == (probabilities > 0.5)))}
    names = {f'specificity@{at:.2f}': at for at in SENSITIVITIES}
    if np.unique(positive).size < 2:
        return scores | dict.fromkeys(names, math.nan)
    false_positive_rates, true_positive_rates, _ = roc_curve(positive, probabilities)
    rates = {name: false_positive_rates[np.argmax(true_positive_rates >= at)] for name, at in names.items()}
    return scores | {name: float(1 - rate) for name, rate in rates.items()}


def probability(cell: str, where: str) -> float:
    """The number in a cell."""
    try:
        value = number_in(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Mistake(f'{where}: {cell!r} is not a probability; write a number from 0 to 1')
    return value


def check_ids(submitted: Collection[str], expected: Collection[str], path: Path, gt_path: Path) -> None:
    """Raise unless the same images are in both."""
    if missing := set(expected) - set(submitted):
        raise Mistake(f'{path} lacks {listed(missing)} of {gt_path}; predict for every image')
    if extra := set(submitted) - set(expected):
        raise Mistake(f'{path} holds {listed(extra)} that are not in {gt_path}; is this the right split?')


def scores_tables(scores: dict[str, Scores]) -> str:
    """The official table of each part, in Markdown."""
    parts = {'Part 1': {name: scores[name] for name in scores if name == 'segmentation'}}
    parts['Part 3'] = {name: scores[name] for name in scores if name != 'segmentation'}
    tables = []
    for title, columns in parts.items():
        if columns:
            keys = next(iter(columns.values()))
            rows = [[key, *(f'{column[key]:.4f}' for column in columns.values())] for key in keys]
            tables.append(markdown_table([title, *columns], rows))
    return '\n\n'.join(tables)
