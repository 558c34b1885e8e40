"""One dictionary with everything that the runs of a suite found."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mmskin.benchmark.fingerprint import check_comparable
from mmskin.benchmark.metrics import read_columns, resampled_metric
from mmskin.benchmark.runs import Run
from mmskin.benchmark.suite import Method, Suite
from mmskin.evaluation.statistics import LEVEL, difference, image_counts, interval
from mmskin.files import read_csv

__all__ = ['collect']

NUM_RESAMPLES = 5000
Report = dict[str, Any]
Seeds = dict[int, np.ndarray]  # by seed: a metric on all images, and in each resample
Values = dict[tuple[str, str], Seeds]  # by method and metric


def collect(suite: Suite, runs: Sequence[Run], num_resamples: int = NUM_RESAMPLES) -> Report:
    """What the finished runs found, as it goes into ``<suite>.json``.

    Raises:
        ValueError: if no run is finished, or runs were made on different data or with different test protocols, with
            other settings than the suite has now, or with a network that was trained anew since.
    """
    finished = [run for run in runs if run.finished]
    if not finished:
        raise ValueError(f'{runs[0].root}: no run is finished, so there is nothing to report.')
    for run in finished:
        run.check_settings()
        run.check_networks()
    fingerprints = {run.name: run.noted_plan()['fingerprints'] for run in finished}
    check_comparable(fingerprints, suite.may_differ)
    values = resample(suite, finished, num_resamples)
    return {
        'suite': suite.name,
        'title': suite.title or suite.name,
        'metrics': list(suite.metrics),
        'may_differ': list(suite.may_differ),
        'baseline': suite.baseline,
        'level': LEVEL,
        'resamples': num_resamples,
        'unfinished': [run.name for run in runs if not run.finished],
        'fingerprints': fingerprints,
        'methods': {method.name: method_report(suite, method, finished, values) for method in suite.methods},
        'differences': differences(suite, values),
    }


def resample(suite: Suite, runs: Sequence[Run], num_resamples: int) -> Values:
    """Each metric of each method's seeds, on all images and in each resample; the same resamples for all."""
    classes = [run.noted().get('classes', ()) for run in runs]
    tables = [read_columns(run.folder / 'test' / 'per_image.csv') for run in runs]
    if len({tuple(image_ids) for image_ids, _ in tables}) > 1:
        raise ValueError(f'{runs[0].root}: the per_image.csv of its runs list different images; test them anew.')
    num_images = len(tables[0][0])
    counts = np.vstack([np.ones(num_images), image_counts(num_images, num_resamples, np.random.default_rng(0))])
    values = {}
    for method in suite.methods:
        own = [
            (run.seed, table, order)
            for run, (_, table), order in zip(runs, tables, classes, strict=True)
            if run.method == method
        ]
        for metric in suite.metrics:
            found = {seed: resampled_metric(metric, table, counts, order) for seed, table, order in own}
            defined = {seed: one for seed, one in found.items() if one is not None and np.isfinite(one[0])}
            if found and len(defined) == len(found):
                values[method.name, metric] = defined
    return values


def method_report(suite: Suite, method: Method, runs: Sequence[Run], values: Values) -> Report:
    """One method's part of the report."""
    seeds = {run.seed: seed_report(run) for run in runs if run.method == method}
    costs = [seed['cost'] for seed in seeds.values()]
    return {
        'config': method.config.as_posix(),
        'options': dict(method.options),
        'note': method.note,
        'paper': dict(method.paper),
        'metrics': {metric: summary(metric, seeds, values.get((method.name, metric))) for metric in suite.metrics},
        'parameters': costs[0]['parameters'] if costs else None,
        'flops': costs[0]['flops'] if costs else None,
        'seconds': fmean(cost['seconds'] for cost in costs) if costs else None,
        'activation_bytes': costs[0].get('activation_bytes') if costs else None,
        'device': ', '.join(sorted({cost['device'] for cost in costs})),
        'seeds': {str(seed): found for seed, found in seeds.items()},
    }


def seed_report(run: Run) -> Report:
    """One run's part: results, cost and per-image numbers."""
    rows = [
        {key: cell if key == 'image_id' else number(cell) for key, cell in row.items()}
        for row in read_csv(run.folder / 'test' / 'per_image.csv')
    ]
    return {**run.noted(), 'per_image': rows}


def number(cell: str) -> float | str | None:
    """A CSV cell as JSON has it: an empty one is null."""
    try:
        return float(cell)
    except ValueError:
        return cell or None


def summary(metric: str, seeds: dict[int, Report], values: Seeds | None) -> Report | None:
    """Mean and standard deviation over seeds, and the interval over images; None if the method lacks the metric."""
    found = [seed['results'].get(metric) for seed in seeds.values()]
    found = [value for value in found if value is not None and math.isfinite(value)]
    if not found:
        return None
    return {
        'values': found,
        'mean': fmean(found),
        'std': stdev(found) if len(found) > 1 else None,
        'images': interval(np.mean([*values.values()], axis=0)[1:]) if values is not None else None,
    }


def differences(suite: Suite, values: Values) -> list[Report]:
    """Each metric's difference between the methods that are compared and have it."""
    return [
        {'metric': metric, 'first': first.name, 'second': second.name}
        | compare(values[first.name, metric], values[second.name, metric], suite.origin(first) == suite.origin(second))
        for metric in suite.metrics
        for first, second in suite.pairs()
        if {(first.name, metric), (second.name, metric)} <= values.keys()
    ]


def compare(first: Seeds, second: Seeds, same_origin: bool) -> Report:
    """The difference of one metric and its intervals; of one origin, on the seeds that both have, each with its own."""
    paired = sorted({*first} & {*second}) if same_origin else []
    pair = [np.array([found[seed] for seed in paired or found]) for found in (first, second)]
    observed, resampled = zip(*((values[:, 0], values[:, 1:]) for values in pair), strict=True)
    return difference(observed, resampled, bool(paired))._asdict() | {'paired_seeds': paired}
