"""The sheet of contours and the file of cases, made at the end of a test."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from mmskin.drawing import Case, contour_sheet, outlines, write_cases
from mmskin.evaluation.segmentation import as_mask, segmentation_scores
from mmskin.registry import METRICS


@METRICS.register_module()
class ContourSheet(BaseMetric):
    """Draws a ``contour_sheet`` when a test is over; it has no numbers of its own.

    Of each image it keeps a ``Case``; the few images it draws are read again from ``img_path``, on the main process.
    All cases are written next to the picture, as JSON, for ``mmskin.report``.

    Args:
        out_file: The picture; the cases get its name with ``.json``.
        num_images: How many images it shows.
    """

    default_prefix = 'sheet'
    optional = True  # for ResultsEvaluator

    def __init__(self, out_file: str = 'cases.png', num_images: int = 18, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.out_file = out_file
        self.num_images = num_images

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Append one ``Case`` for each of ``data_samples`` (``TaskSample.to_dict()``)."""
        classes = (self.dataset_meta or {}).get('classes', ())
        self.results.extend(describe(sample, classes) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Draw the sheet and keep the cases."""
        if results:
            write_cases(Path(self.out_file).with_suffix('.json'), results)
            contour_sheet(results, self.out_file, self.num_images)
        return {}


def describe(sample: dict, classes: Sequence[str]) -> Case:
    """What a picture needs of a sample (``TaskSample.to_dict()``); a class is its number where it has no name."""

    def name(label: Any) -> str:
        if label is None:
            return ''
        return classes[int(label)] if classes else str(int(label))

    path = sample.get('img_path')
    scores = sample['pred_score'].tolist() if 'pred_score' in sample else []
    masks = {key: as_mask(sample[key]['data']) for key in ('gt_sem_seg', 'pred_sem_seg') if key in sample}
    lines = {key: outlines(mask.squeeze(0)) for key, mask in masks.items()}
    jaccard = math.nan
    if len(masks) == 2:
        jaccard = segmentation_scores(masks['pred_sem_seg'], masks['gt_sem_seg'])['JA']
    return Case(
        image_id=sample['image_id'],
        img_path=os.path.abspath(path) if path else None,
        gt_class=name(sample.get('gt_label')),
        pred_class=name(sample.get('pred_label')),
        scores={name(index): score for index, score in enumerate(scores)},
        jaccard=jaccard,
        true_outlines=lines.get('gt_sem_seg', []),
        pred_outlines=lines.get('pred_sem_seg', []),
    )
