"""One dictionary with everything that the runs of a suite found."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mmskin.benchmark.fingerprint import check_comparable
from mmskin.benchmark.runs import Run
from mmskin.benchmark.suite import Method, Suite
from mmskin.errors import Mistake
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import AREAS, LEVEL, difference, image_counts, interval, mean_of, weighted_mean

__all__ = ['collect', 'resampled_metric']

NUM_RESAMPLES = 5000
Report = dict[str, Any]
Tested = list[tuple[Run, PerImageTable]]
Seeds = dict[int, np.ndarray]  # by seed: a metric on all images, and in each resample
Values = dict[tuple[str, str], Seeds]  # by method and metric


def collect(suite: Suite, runs: Sequence[Run], num_resamples: int = NUM_RESAMPLES) -> Report:
    """What the finished runs found, as it goes into ``<suite>.json``.

    Raises:
        Mistake: if no run is finished, or runs were made on different data or with different test protocols, with
            other settings than the suite has now, or with a network that was trained anew since.
    """
    finished = [run for run in runs if run.finished]
    if not finished:
        raise Mistake(f'{runs[0].root}: no run is finished, so there is nothing to report.')
    for run in finished:
        run.check_settings()
        run.check_networks()
    fingerprints = {run.name: run.noted_plan()['fingerprints'] for run in finished}
    check_comparable(fingerprints, suite.may_differ)
    tables = read_tables(finished)
    values = resample(suite, tables, num_resamples)
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
        'methods': {method.name: method_report(suite, method, tables, values) for method in suite.methods},
        'differences': differences(suite, values),
    }


def read_tables(runs: Sequence[Run]) -> Tested:
    """The tables of finished runs, all with the images in the order of the first."""
    tables: Tested = []
    for run in runs:
        table = PerImageTable.read(run.folder / 'test')
        try:
            tables.append((run, table.aligned(tables[0][1].image_ids) if tables else table))
        except ValueError as error:
            raise Mistake(f'{run.folder} and {runs[0].folder}: {error}; test them anew.') from error
    return tables


def resample(suite: Suite, tables: Tested, num_resamples: int) -> Values:
    """Each metric of each method's seeds, on all images and in each resample; the same resamples for all."""
    num_images = len(tables[0][1])
    counts = np.vstack([np.ones(num_images), image_counts(num_images, num_resamples, np.random.default_rng(0))])
    values = {}
    for method in suite.methods:
        own = {run.seed: table for run, table in tables if run.method == method}
        for metric in suite.metrics:
            found = {seed: resampled_metric(metric, table, counts) for seed, table in own.items()}
            defined = {seed: one for seed, one in found.items() if one is not None and np.isfinite(one[0])}
            if found and len(defined) == len(found):
                values[method.name, metric] = defined
    return values


def resampled_metric(name: str, table: PerImageTable, counts: np.ndarray) -> np.ndarray | None:
    """The metric ``name`` in each resample of the images.

    Args:
        name: a key of ``results.json``. A metric that is a column of its own is the mean of that column; of the others
            accuracy, average precision and AUC are known.
        table: of N images.
        counts: how often each image is drawn, (B, N).

    Returns:
        An array (B,), or None if the metric does not follow from the table.
    """
    if name in table.columns:
        return weighted_mean(table.columns[name], counts)
    task, _, key = name.partition('/')
    table = table.of(task)
    if key == 'AC' and table.judged.any():
        return weighted_mean(table.right, counts)
    area, _, kind = ('AP', '', '') if key == 'mAP' else key.partition('_')
    kinds = table.classes if key == 'mAP' else CATEGORIES if kind == 'mean' else (kind,)
    if area not in AREAS or not kinds or not {*kinds} <= {*table.classes} or not table.judged.any():
        return None
    areas: list[Callable] = [partial(AREAS[area], *table.one_against_rest(kind)) for kind in kinds]
    return mean_of(areas)(counts[:, table.judged])


def method_report(suite: Suite, method: Method, tables: Tested, values: Values) -> Report:
    """One method's part of the report."""
    seeds = {run.seed: {**run.noted(), 'per_image': table.rows()} for run, table in tables if run.method == method}
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
