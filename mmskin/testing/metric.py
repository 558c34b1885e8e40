"""The contract of metrics."""

import json
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from mmengine.structures import PixelData

from mmskin.evaluation.per_image import PerImageMetric
from mmskin.registry import METRICS
from mmskin.structures import TaskSample

CLASSES = ('melanoma', 'nevus', 'seborrheic_keratosis')


def evaluated_sample(index: int, labelled: bool = True) -> TaskSample:
    """A sample with random predictions of every task and, if it is ``labelled``, random labels."""
    generator = torch.Generator().manual_seed(index)
    scores, values = torch.rand(3, generator=generator).softmax(0), torch.rand(2, 2, generator=generator)
    masks = torch.randint(2, (2, 1, 9, 13), generator=generator, dtype=torch.uint8)
    sample = TaskSample(metainfo=dict(image_id=f'{index:03}', img_path='', img_shape=(5, 7), ori_shape=(9, 13)))
    sample.cls_score, sample.cls_label = scores, scores.argmax(0, keepdim=True)
    sample.seg_mask, sample.regression_values = PixelData(data=masks[0]), values[0]
    sample.labels_score = scores
    if labelled:
        sample.gt_label = torch.tensor([index % 3])
        sample.gt_sem_seg, sample.gt_values = PixelData(data=masks[1]), values[1]
        sample.gt_labels = torch.tensor([index % 2, index // 3 % 2, index % 4 // 2], dtype=torch.float32)
    return sample


class MetricContract:
    """A metric turns samples into numbers: as few as are labelled, in any order, on any number of processes.

    It is a ``PerImageMetric``.

    Attributes:
        cfg: Its config.
    """

    cfg: ClassVar[dict]

    def processed(self, samples: Sequence[TaskSample], batch_size: int = 4) -> PerImageMetric:
        """The metric after it has seen ``samples``."""
        metric = METRICS.build(dict(self.cfg))
        metric.dataset_meta = dict(classes=CLASSES)
        for start in range(0, len(samples), batch_size):
            metric.process({}, [sample.to_dict() for sample in samples[start : start + batch_size]])
        return metric

    def results(self, samples: Sequence[TaskSample], batch_size: int = 4) -> dict[str, float]:
        """What comes out for ``samples``."""
        return self.processed(samples, batch_size).evaluate(len(samples))

    def samples(self) -> list[TaskSample]:
        """A dozen, all labelled."""
        return [evaluated_sample(index) for index in range(12)]

    def test_numbers_by_name(self) -> None:
        """Finite, and named after the task, as in ``seg/JA``."""
        results = self.results(self.samples())
        assert results
        assert all('/' in name and math.isfinite(value) for name, value in results.items()), results

    def test_order_and_batches_change_no_digit(self) -> None:
        """Nor does the number of workers, then."""
        assert self.results(self.samples()[::-1], batch_size=5) == self.results(self.samples())

    def test_halves_make_the_whole(self) -> None:
        """As on two processes, whose rows are joined."""
        samples = self.samples()
        first, second = self.processed(samples[:7]), self.processed(samples[7:])
        first.results += second.results
        assert first.evaluate(len(samples)) == self.results(samples)

    def test_images_without_labels_change_nothing(self) -> None:
        """A set may be labelled in part."""
        partly = self.samples()
        partly[3:3] = [evaluated_sample(index, labelled=False) for index in (50, 51)]
        assert self.results(partly) == self.results(self.samples())

    def test_nothing_to_judge(self) -> None:
        """Without any label: no number, or nan, but no error."""
        results = self.results([evaluated_sample(index, labelled=False) for index in range(3)])
        assert all(math.isnan(value) for value in results.values()), results

    def test_one_image(self) -> None:
        """Gives the same numbers, some of them undefined."""
        assert self.results(self.samples()[:1]).keys() == self.results(self.samples()).keys()

    def test_a_row_for_each_image(self) -> None:
        """Small, since there may be many images, and fit for a file."""
        samples = self.samples()
        metric = self.processed(samples)
        metric.evaluate(len(samples))
        assert [row['image_id'] for row in metric.per_image] == [sample.image_id for sample in samples]
        assert all(len(json.dumps(row)) < 1000 for row in metric.per_image)
