"""One dictionary with everything that the runs of a suite found."""

import csv
import json
import math
from collections.abc import Sequence
from itertools import combinations
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mmskin.benchmark.fingerprint import check_comparable
from mmskin.benchmark.metrics import read_columns, resampled_metric
from mmskin.benchmark.runs import Run
from mmskin.benchmark.statistics import LEVEL, difference, image_counts, interval, seed_mean
from mmskin.benchmark.suite import Method, Suite

__all__ = ['collect']

NUM_RESAMPLES = 5000
Report = dict[str, Any]
Values = dict[tuple[str, str], np.ndarray]  # by method and metric: (seeds, resamples); the first column is all images


def collect(suite: Suite, runs: Sequence[Run], num_resamples: int = NUM_RESAMPLES) -> Report:
    """What the finished runs found, as it goes into ``<suite>.json``.

    Raises:
        ValueError: if no run is finished, or runs were made on different data or with different test protocols.
    """
    finished = [run for run in runs if run.finished]
    if not finished:
        raise ValueError(f'{runs[0].root}: no run is finished, so there is nothing to report.')
    plans = {run.name: run.noted_plan() or {} for run in finished}
    check_comparable({name: plan['fingerprints'] for name, plan in plans.items()}, suite.may_differ)
    values = resample(suite, finished, num_resamples)
    return {
        'suite': suite.name,
        'title': suite.title or suite.name,
        'metrics': list(suite.metrics),
        'may_differ': list(suite.may_differ),
        'level': LEVEL,
        'resamples': num_resamples,
        'unfinished': [run.name for run in runs if not run.finished],
        'fingerprints': {name: plan['fingerprints'] for name, plan in plans.items()},
        'methods': {method.name: method_report(suite, method, finished, values) for method in suite.methods},
        'differences': differences(suite, values),
    }


def resample(suite: Suite, runs: Sequence[Run], num_resamples: int) -> Values:
    """Each metric of each method's seeds, on all images and in each resample; the same resamples for all."""
    tables = [read_columns(run.folder / 'test' / 'per_image.csv') for run in runs]
    if len({tuple(image_ids) for image_ids, _ in tables}) > 1:
        raise ValueError(f'{runs[0].root}: the per_image.csv of its runs list different images; test them anew.')
    num_images = len(tables[0][0])
    counts = np.vstack([np.ones(num_images), image_counts(num_images, num_resamples, np.random.default_rng(0))])
    values = {}
    for method in suite.methods:
        columns = [table for run, (_, table) in zip(runs, tables, strict=True) if run.method == method]
        for metric in suite.metrics:
            found = [resampled_metric(metric, table, counts) for table in columns]
            if found and all(one is not None and np.isfinite(one[0]) for one in found):
                values[method.name, metric] = np.array(found)
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
    with (run.folder / 'test' / 'per_image.csv').open(newline='', encoding='utf-8') as file:
        rows = [{key: number(cell) for key, cell in row.items()} for row in csv.DictReader(file)]
    return {**json.loads((run.folder / 'run.json').read_text()), 'per_image': rows}


def number(cell: str) -> float | str | None:
    """A CSV cell as JSON has it: an empty one is null."""
    try:
        return float(cell)
    except ValueError:
        return cell or None


def summary(metric: str, seeds: dict[int, Report], values: np.ndarray | None) -> Report | None:
    """Mean and standard deviation over seeds, and the interval over images; None if the method lacks the metric."""
    found = [seed['results'].get(metric) for seed in seeds.values()]
    found = [value for value in found if value is not None and math.isfinite(value)]
    if not found:
        return None
    return {
        'values': found,
        'mean': fmean(found),
        'std': stdev(found) if len(found) > 1 else None,
        'images': interval(seed_mean(values)[1:]) if values is not None else None,
    }


def differences(suite: Suite, values: Values) -> list[Report]:
    """Each metric's difference between any two methods that have it."""
    rng = np.random.default_rng(1)
    return [
        {'metric': metric, 'first': first.name, 'second': second.name} | compare(first, second, metric, values, rng)
        for metric in suite.metrics
        for second, first in combinations(suite.methods, 2)
        if {(first.name, metric), (second.name, metric)} <= values.keys()
    ]


def compare(first: Method, second: Method, metric: str, values: Values, rng: np.random.Generator) -> Report:
    """The difference of one metric and its intervals."""
    pair = values[first.name, metric], values[second.name, metric]
    same_networks = (first.weights_of or first.name) == (second.weights_of or second.name)
    observed, resampled = (pair[0][:, 0], pair[1][:, 0]), (pair[0][:, 1:], pair[1][:, 1:])
    return difference(observed, resampled, rng, same_networks and len(pair[0]) == len(pair[1]))._asdict()
