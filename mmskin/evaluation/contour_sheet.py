"""The sheet of contours and the file of cases, made at the end of a test."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from mmskin.drawing import Case, draw_sheet, outlines, save_figure
from mmskin.evaluation.per_image import Spool, mean_of_defined, read_companion, write_companion
from mmskin.evaluation.segmentation import outline_scores
from mmskin.files import readable
from mmskin.registry import METRICS
from mmskin.structures import IGNORED, label_in, names_of

MOST = 2000  # cases for the report
OUTLINES = ('true_outlines', 'pred_outlines')


@METRICS.register_module()
class ContourSheet(BaseMetric):
    """Draws a sheet of contours with a row for each true class when a test is over; it has no numbers of its own.

    It keeps a ``Case`` of each image, on the disk; the few images it draws are read again from ``img_path`` on the main
    process. The cases are written next to the picture, as JSON, for ``mmskin.report``: of more than ``MOST`` those of
    each class that are first, wrong, or best, middle or worst by JA.

    Args:
        out_file: The picture; the cases get its name with ``.json``.
        num_images: How many images it shows, shared out evenly over the classes; see ``choose_cases``.
    """

    default_prefix = 'sheet'
    optional = True  # for ResultsEvaluator

    def __init__(self, out_file: str = 'cases.png', num_images: int = 18, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.results: Any = Spool()
        self.out_file = out_file
        self.num_images = num_images

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Append one ``Case`` for each of ``data_samples`` (``TaskSample.to_dict()``)."""
        self.results.extend(describe(sample, self.dataset_meta) for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Draw the sheet and keep the cases."""
        if not results:
            return {}
        chosen = {*range(len(results))}
        if len(results) > MOST:  # the cases' outlines stay on the disk until it is known which are kept
            chosen = set()
            rows = ((case.image_id, case.gt_class, case.jaccard, case.wrong) for case in results)
            ids, classes, jaccards, wrong = zip(*rows, strict=True)
            share = max(1, MOST // (5 * len({*classes})))
            for name in {*classes}:
                own = sorted((index for index, gt_class in enumerate(classes) if gt_class == name), key=ids.__getitem__)
                ranked = sorted((index for index in own if jaccards[index] >= 0), key=jaccards.__getitem__)
                middle = max(0, (len(ranked) - share) // 2)
                chosen |= {*own[:share], *ranked[:share], *ranked[middle : middle + share], *ranked[-share:]}
                chosen |= {*[index for index in own if wrong[index]][:share]}
        cases = [results[index] for index in sorted(chosen)]
        write_cases(Path(self.out_file).with_suffix('.json'), cases)
        by_class: dict[str, list[Case]] = {}
        for case in cases:
            by_class.setdefault(case.gt_class, []).append(case)
        count = math.ceil(self.num_images / len(by_class))
        drawn = {readable(name) or 'no label': choose_cases(by_class[name], count) for name in sorted(by_class)}
        save_figure(draw_sheet(drawn), self.out_file)
        return {}


def describe(sample: dict, metainfo: Mapping[str, Any] | None) -> Case:
    """What a picture needs of a sample (``TaskSample.to_dict()``).

    Class and outlines are those of the tasks that learn ``gt_label`` and ``gt_sem_seg``, or else of the first that gave
    some; further tasks are noted in words.

    Args:
        sample: With predictions, ground truth, or both.
        metainfo: The data set's, whose names classes get; a class is its number where it has no name.
    """
    targets = sample.get('targets', {})
    diagnosis, outline = (
        next((task for task in sorted(targets, key=lambda key: targets[key] != usual) if f'{task}_{end}' in sample), '')
        for usual, end in (('gt_label', 'label'), ('gt_sem_seg', 'mask'))
    )
    label, shape = targets.get(diagnosis, 'gt_label'), targets.get(outline, 'gt_sem_seg')

    def named(target: str, index: Any) -> str:
        names = names_of(metainfo, target)
        return names[int(index)] if int(index) < len(names) else str(int(index))

    def lines(field: str) -> list[np.ndarray]:
        """Of each mask, or of each class of a map of classes; none of the background and of what is not counted."""
        masks: Any = torch.as_tensor(sample[field]['data']).cpu().numpy() if field in sample else []
        return [
            line
            for mask in masks
            for level in np.flatnonzero(np.bincount(mask.ravel()))
            if level not in (0, IGNORED)
            for line in outlines(mask == level)
        ]

    def note(task: str, target: str) -> str:
        if f'{task}_label' in sample:
            index = int(sample[f'{task}_label'])
            called = f'{named(target, index)} {float(sample[f"{task}_score"][index]):.2f}'
            true = label_in(sample, target)
            return called if true is None else f'{called} (true: {named(target, true)})'
        flags = f'{task}_labels' in sample
        fields = {f'{task}_labels' if flags else f'{task}_values': '', target: 'true: '}
        texts = [
            word + listed(sample[field].tolist(), names_of(metainfo, target), flags)
            for field, word in fields.items()
            if field in sample
        ]
        return f'{texts[0]} ({texts[1]})' if len(texts) > 1 else ''.join(texts)

    path = sample.get('img_path')
    scores = sample[f'{diagnosis}_score'].tolist() if diagnosis else []
    both = outline and shape in sample
    pair = [sample[field]['data'] for field in (f'{outline}_mask', shape)] if both else []
    jaccards = [scores['JA'] for scores in outline_scores(*pair)] if pair else []
    drawn = {diagnosis, outline, *(task for task, target in targets.items() if target == label and not diagnosis)}
    drawn |= {task for task, target in targets.items() if target == shape and not outline}
    noted = {task: target for task, target in targets.items() if task not in drawn}
    return Case(
        image_id=sample['image_id'],
        img_path=os.path.abspath(path) if path and '://' not in path else None,  # else it is in a storage
        gt_class=named(label, true) if (true := label_in(sample, label)) is not None else '',
        pred_class=named(label, sample[f'{diagnosis}_label']) if diagnosis else '',
        scores={named(label, index): score for index, score in enumerate(scores)},
        jaccard=mean_of_defined(jaccards),
        true_outlines=lines(shape),
        pred_outlines=lines(f'{outline}_mask'),
        notes={task: note(task, target) for task, target in noted.items() if f'{task}_mask' not in sample},
    )


def listed(values: Sequence[float], names: Sequence[str], flags: bool) -> str:
    """Labels that apply, or values with three digits, by name."""
    named = zip(names or map(str, range(len(values))), values, strict=False)
    if flags:
        return ', '.join(name for name, value in named if value > 0.5) or 'none'
    return ', '.join(f'{name} {value:.3g}' for name, value in named)


def write_cases(path: str | Path, cases: Iterable[Case]) -> None:
    """Write ``cases`` as JSON, sorted by image id: about 1.5 kB each, null for an unknown JA."""
    images = [
        {
            **asdict(case),
            **{key: [np.round(line.astype(float), 4).tolist() for line in getattr(case, key)] for key in OUTLINES},
        }
        for case in sorted(cases, key=lambda case: case.image_id)
    ]
    write_companion(path, {'cases': images}, indent=None)


def read_cases(path: str | Path) -> list[Case]:
    """The cases in a file of ``write_cases``."""
    images = read_companion(path)['cases']
    for image in images:
        image['jaccard'] = math.nan if image['jaccard'] is None else image['jaccard']
        image |= {key: [np.array(line, np.float16) for line in image[key]] for key in OUTLINES}
    return [Case(**image) for image in images]


def choose_cases(cases: Sequence[Case], count: int) -> list[Case]:
    """``count`` cases, the same ones in whatever order they come: by image id, then failures at the end.

    A quarter is kept for wrongly classified images and a quarter for the lowest JA, as rows 2 and 3 of the figure are.
    """
    by_id = sorted(cases, key=lambda case: case.image_id)
    share = max(1, count // 4)
    poor = sorted((case for case in by_id if case.jaccard < 1), key=lambda case: case.jaccard)[:share]
    wrong = [case for case in by_id if case.wrong and case not in poor][:share]
    rest = sorted((case for case in by_id if case not in poor + wrong), key=lambda case: case.wrong)
    return [*rest[: max(0, count - len(wrong) - len(poor))], *wrong, *poor][:count]
