"""The common ground of mmskin's metrics: one row of small numbers for each image."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from mmengine.evaluator import BaseMetric

Row = dict[str, Any]


def mean_of_defined(values: Iterable[float]) -> float:
    """The mean of the values that are not nan, or nan if there is none.

    The sum is rounded once, so the order in which processes hand in their images cannot change a digit.
    """
    defined = [value for value in values if not math.isnan(value)]
    return fmean(defined) if defined else math.nan


class PerImageMetric(BaseMetric):
    """A metric that turns each sample into one row of numbers, and all rows into its results.

    Memory grows with the number of images only: a row holds no mask and no image. There is one row for each sample,
    even for one that has nothing to measure, because mmengine cuts off a sampler's padding by position.

    Attributes:
        per_image: after ``evaluate``, on the main process: the rows, each with an ``image_id``.
    """

    per_image: Sequence[Row] = ()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Append one row for each of ``data_samples`` (``TaskSample.to_dict()``)."""
        self.results.extend({'image_id': sample['image_id'], **self.measure(sample)} for sample in data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Keep the rows as ``per_image`` and summarize them."""
        self.per_image = results
        return self.summarize(results)

    @abstractmethod
    def measure(self, sample: dict) -> Row:
        """The numbers of one sample; empty if it lacks what the metric compares."""

    @abstractmethod
    def summarize(self, rows: list[Row]) -> dict[str, float]:
        """The results over all rows; empty if no row can be judged."""
