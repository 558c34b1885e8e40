"""The files that a test leaves, results.json and per_image.csv, and tables in Markdown."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmskin.evaluation.per_image import PerImageMetric, Row
from mmskin.files import write_csv, write_text


def write_results(path: str | Path, metrics: Mapping[str, float]) -> None:
    """Write metrics as JSON, sorted by name; null where one is undefined, since JSON has no nan."""
    finite = {name: float(value) if math.isfinite(value) else None for name, value in sorted(metrics.items())}
    write_text(path, json.dumps(finite, indent=2, allow_nan=False) + '\n')


def write_per_image(path: str | Path, metrics: Iterable[object]) -> None:
    """Write one CSV row for each image, sorted by ``image_id``, from the ``per_image`` rows of all ``metrics``.

    A column is named as the results are (``seg/JA``). A cell is empty where an image lacks the number or it is
    undefined. Metrics that keep no rows of this kind are passed over.
    """
    rows = merge_rows(metric for metric in metrics if isinstance(metric, PerImageMetric))
    columns = ['image_id', *sorted({key for row in rows for key in row} - {'image_id'})]
    write_csv(path, [columns, *([row.get(column) for column in columns] for row in rows)])


def merge_rows(metrics: Iterable[PerImageMetric]) -> list[Row]:
    """The rows of all metrics, joined by ``image_id`` and sorted by it; undefined numbers become empty."""
    merged: dict[str, Row] = {}
    for metric in metrics:
        for row in metric.per_image:
            image = merged.setdefault(row['image_id'], {'image_id': row['image_id']})
            image.update({f'{metric.prefix}/{k}': blank_nan(v) for k, v in row.items() if k != 'image_id'})
    return [merged[image_id] for image_id in sorted(merged)]


def blank_nan(value: float) -> float | str:
    """An empty string in place of nan."""
    return '' if math.isnan(value) else value


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *rows))
