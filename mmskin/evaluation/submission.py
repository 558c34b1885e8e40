"""Writing a submission to the ISIC-2017 challenge."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmskin.datasets.isic2017 import MASK_SUFFIX
from mmskin.errors import Mistake
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import Row
from mmskin.evaluation.segmentation import as_mask
from mmskin.files import file_key, write_csv
from mmskin.masks import write_mask
from mmskin.registry import METRICS

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
        out_dir: the submission's folder. Masks of other images in it are an error at the end of the test.
        diagnosis: the task that names the disease; by default the one that learns ``gt_label``.
        outline: the task that outlines the lesion; by default the one that learns ``gt_sem_seg``.

    Raises:
        Mistake: at the end, if the network does neither.
    """

    default_prefix = 'submission'

    def __init__(
        self, out_dir: str = 'submission', diagnosis: str | None = None, outline: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.out_dir = Path(out_dir)
        self.diagnosis, self.outline = diagnosis, outline

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Write the masks of ``data_samples`` (``TaskSample.to_dict()``) and keep their probabilities."""
        for sample in data_samples:
            tasks = {target: task for task, target in sample.get('targets', {}).items()}
            outline = f'{self.outline or tasks.get("gt_sem_seg", "seg")}_mask'
            if outline in sample:
                mask = as_mask(sample[outline]['data'])
                write_mask(self.out_dir / MASKS / f'{sample["image_id"]}{MASK_SUFFIX}', mask)
            scores = sample.get(f'{self.diagnosis or tasks.get("gt_label", "cls")}_score')
            found = {} if scores is None else self.probabilities(scores)
            self.results.append({'image_id': sample['image_id'], 'outlined': outline in sample, **found})

    def probabilities(self, scores: Any) -> Row:
        """The probabilities of the challenge's two categories among those of all classes.

        Raises:
            Mistake: if the dataset's ``metainfo['classes']`` lacks a category.
        """
        classes = list((self.dataset_meta or {}).get('classes', ()))
        if not set(CATEGORIES) <= set(classes):
            raise Mistake(
                f"The dataset's metainfo['classes'] is {classes}; Part 3 of the challenge needs {CATEGORIES}."
            )
        return {name: float(scores[classes.index(name)]) for name in CATEGORIES}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Write the table, and pack the masks when they are those of the tested images."""
        if results and not any(row['outlined'] or CATEGORIES[0] in row for row in results):
            raise Mistake(
                'nothing to submit: no task of this network learns gt_label or gt_sem_seg, the diagnosis and the '
                'outline of the challenge'
            )
        rows = sorted((row for row in results if CATEGORIES[0] in row), key=lambda row: row['image_id'])
        if rows:
            write_table(self.out_dir / TABLE, rows)
        if (self.out_dir / MASKS).is_dir():
            check_masks(self.out_dir / MASKS, {row['image_id'] for row in results if row['outlined']})
            shutil.make_archive(str(self.out_dir / MASKS), 'zip', self.out_dir / MASKS)
        print_log(f'The submission is in {self.out_dir}.', logger='current')
        return {}


def write_table(path: Path, rows: list[Row]) -> None:
    """Write the probabilities with the nine digits that tell any two of float32 apart."""
    write_csv(path, ([row['image_id'], *(f'{row[name]:.9g}' for name in CATEGORIES)] for row in rows))


def check_masks(folder: Path, image_ids: set[str]) -> None:
    """Raise if ``folder`` holds other masks than those of ``image_ids``, such as an earlier submission's.

    Of ids that differ in capitals alone, some disks would have kept one mask, and so would who unpacks the archive.
    """
    keys = Counter(map(file_key, image_ids))
    if alike := sorted(one for one in image_ids if keys[file_key(one)] > 1):
        raise Mistake(f'the ids {" and ".join(alike[:2])} are one file on a disk that ignores capitals; rename one')
    strays = sorted({path.name for path in folder.iterdir()} - {f'{image_id}{MASK_SUFFIX}' for image_id in image_ids})
    if strays:
        raise Mistake(
            f'{folder / strays[0]} is not of this test set ({len(strays)} such files); choose an empty folder.'
        )
