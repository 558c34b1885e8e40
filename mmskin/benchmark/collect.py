"""One dictionary with everything that the runs of a suite found."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from mmskin.benchmark.fingerprint import FOLDS, check_comparable, folds_digest
from mmskin.benchmark.runs import NOTE, Run, or_again
from mmskin.benchmark.suite import Method, Suite
from mmskin.datasets.task_dataset import read_folds
from mmskin.errors import Mistake
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.per_image import RESULTS, PerImageTable
from mmskin.evaluation.statistics import (
    AREAS,
    CELLS,
    LEVEL,
    difference,
    image_counts,
    interval,
    mean_of,
    weighted_mean,
)
from mmskin.files import read_note

NUM_RESAMPLES = 5000
Report = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One metric of one method: by seed, on all images and in each resample; and what each fold's seed changes.

    Attributes:
        seeds: arrays (1 + B,) by seed.
        parts: by seed, the metric (F,) if each fold alone had its network, and the others that of the first seed.
    """

    seeds: dict[int, np.ndarray]
    parts: dict[int, np.ndarray]


def collect(suite: Suite, runs: Sequence[Run], num_resamples: int = NUM_RESAMPLES) -> Report:
    """What the finished runs found, as it goes into ``<suite>.json``.

    In cross-validation a seed counts when all its folds are finished: its predictions are then of all images, each by
    a network that has not seen its group, and the tables of the folds are one.

    Raises:
        Mistake: if no run, or no seed in all folds, is finished; if runs were made on different data, with different
            test protocols, with other settings than the suite has now, or with a network that was trained again since;
            if the table of folds is another one now.
    """
    finished = [run for run in runs if run.finished]
    for run in finished:
        run.check_settings()
        run.check_networks()
    fingerprints = {run.name: run.noted_plan().get('fingerprints', {}) for run in finished}
    for fold in suite.fold_numbers:
        of_fold = {run.name: fingerprints[run.name] for run in finished if run.fold == fold}
        check_comparable(of_fold, suite.may_differ)
    by_seed: dict[tuple[str, int], list[Run]] = {}
    for run in finished:
        by_seed.setdefault((run.method.name, run.seed), []).append(run)
    count = len(suite.fold_numbers)
    tested = {key: folds for key, folds in by_seed.items() if len(folds) == count}
    unfinished = {key: len(folds) for key, folds in by_seed.items() if len(folds) < count}
    if not tested:
        what = 'no run is finished' if suite.folds is None else 'no method has a seed with all folds finished'
        raise Mistake(f'{runs[0].results}: {what}, so there is nothing to report')
    tables: dict[tuple[str, int], PerImageTable] = {}
    image_ids: list[str] = []  # in the order of the first table
    for key, of_seed in tested.items():
        table = join([read_record(run.record) for run in of_seed])
        image_ids = image_ids or table.image_ids
        try:
            tables[key] = table.aligned(image_ids)
        except ValueError as error:
            other_run = next(iter(tested.values()))[0]
            raise Mistake(f'{of_seed[0].record} and {other_run.record}: {error}; test them again') from error
    groups = None
    if suite.folds:
        places = tested_folds(runs[0].folds_file, image_ids, [run.record for run in finished])
        groups = np.unique([places[image_id][1] for image_id in image_ids], return_inverse=True)[1]
    values = _measure(suite, tables, tested, groups, num_resamples)
    differences = []
    for metric, (first, second) in product(suite.metrics, suite.pairs()):
        one, other = (values.get((method.name, metric)) for method in (first, second))
        if one is not None and other is not None:
            row: Report = {'metric': metric, 'first': first.name, 'second': second.name}
            row |= compare(one, other, suite.origin(first) == suite.origin(second))
            ends = row['images_and_seeds'] or row['images']
            differences.append(row | {'verdict': verdict(metric, ends, suite.margins.get(metric))})
    return {
        'suite': suite.name,
        'title': suite.title or suite.name,
        'metrics': list(suite.metrics),
        'may_differ': list(suite.may_differ),
        'baseline': suite.baseline,
        'margins': dict(suite.margins),
        'folds': suite.folds and suite.folds.count,
        'images': len(image_ids),
        'groups': None if groups is None else int(groups.max()) + 1,
        'level': LEVEL,
        'resamples': num_resamples,
        'unfinished': [run.name for run in runs if not run.finished],
        'partial': [f'{name}, seed {seed} ({done} of {count} folds)' for (name, seed), done in unfinished.items()],
        'fingerprints': fingerprints,
        'methods': {method.name: _method_report(suite, method, tables, tested, values) for method in suite.methods},
        'differences': differences,
    }


def read_record(folder: str | Path) -> PerImageTable:
    """The table of a test, such as a run's; a run's is the one that its ``run.json`` was written with."""
    folder = Path(folder)
    with or_again(folder):
        table = PerImageTable.read(folder)
        if (folder / NOTE).is_file():
            measured = {name: value for name, value in read_note(folder / RESULTS).items() if name != 'per_image'}
            if read_note(folder / NOTE).get('results', measured) != measured:
                raise Mistake(f'{folder}: {RESULTS} is of another test than {NOTE}; restore both')
    return table


def join(tables: Sequence[PerImageTable]) -> PerImageTable:
    """One table of all images of several; a column that one of them lacks is nan there."""
    image_ids = [image_id for table in tables for image_id in table.image_ids]
    if len({*image_ids}) < len(image_ids):
        raise Mistake(f'{Counter(image_ids).most_common(1)[0][0]} was tested in two folds; test them again')
    names = dict.fromkeys(name for table in tables for name in table.columns)
    columns = {name: np.concatenate([table.column(*name.split('/', 1)) for table in tables]) for name in names}
    return PerImageTable(image_ids, columns)


def tested_folds(path: str | Path, image_ids: Iterable[str], records: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """Fold and group by image id, of the table that results in the folders ``records`` were made with."""
    folds, now = read_folds(path), folds_digest(path)
    if missing := {*image_ids} - folds.keys():
        raise Mistake(f'{path}: lacks {min(missing)}, which was tested; restore the table of results')
    for note in (record / NOTE for record in records):
        noted = read_note(note).get('plan', {}) if note.is_file() else {}
        if noted.get('fingerprints', {}).get(FOLDS, now) != now:
            raise Mistake(f'{path}: has other folds or groups than the results; restore it')
    return folds


def _measure(
    suite: Suite,
    tables: dict[tuple[str, int], PerImageTable],
    tested: dict[tuple[str, int], list[Run]],
    groups: np.ndarray | None,
    num_resamples: int,
) -> dict[tuple[str, str], Measured]:
    """Each metric of each method's seeds, on all images and in each resample; the same resamples for all."""
    image_ids = next(iter(tables.values())).image_ids
    resamples = image_counts(len(image_ids), num_resamples, np.random.default_rng(0), groups)
    counts = np.vstack([np.ones(len(image_ids)), resamples])
    fold_of = read_folds(next(iter(tested.values()))[0].folds_file) if suite.folds else {}
    folds = np.array([fold_of.get(image_id, (0, ''))[0] for image_id in image_ids])
    values = {}
    for method in suite.methods:
        own = {seed: table for (name, seed), table in tables.items() if name == method.name}
        for metric in suite.metrics:
            drawn = {seed: resampled_metric(metric, table, counts) for seed, table in own.items()}
            defined = {seed: draws for seed, draws in drawn.items() if draws is not None and np.isfinite(draws[0])}
            if drawn and len(defined) == len(drawn):
                first, parts = own[min(own)], {}
                for seed, other in own.items():
                    by_fold = []
                    for fold in np.unique(folds):  # of the first seed, but for this fold's rows
                        columns = {
                            name: np.where(folds == fold, other.column(*name.split('/', 1)), column)
                            for name, column in first.columns.items()
                        }
                        value = resampled_metric(metric, PerImageTable(image_ids, columns), counts[:1])
                        by_fold.append(math.nan if value is None else float(value[0]))
                    parts[seed] = np.array(by_fold)
                values[method.name, metric] = Measured(defined, parts)
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
    mean, rows = mean_of(areas), max(1, CELLS // len(table.image_ids))
    parts = (counts[start : start + rows, table.judged] for start in range(0, len(counts), rows))
    return np.concatenate([mean(part) for part in parts])


def _method_report(
    suite: Suite,
    method: Method,
    tables: dict[tuple[str, int], PerImageTable],
    tested: dict[tuple[str, int], list[Run]],
    values: dict[tuple[str, str], Measured],
) -> Report:
    """One method's part of the report."""
    seeds = {
        seed: _seed_report(suite, tables[name, seed], runs)
        for (name, seed), runs in tested.items()
        if name == method.name
    }
    costs = [cost for seed in seeds.values() for cost in seed['costs']]
    metrics: dict[str, Report | None] = {}
    for metric in suite.metrics:
        of_seeds = [seed['results'].get(metric) for seed in seeds.values()]
        defined = [value for value in of_seeds if value is not None and math.isfinite(value)]
        measured = values.get((method.name, metric))
        metrics[metric] = None
        if defined:
            metrics[metric] = {
                'values': defined,
                'mean': fmean(defined),
                'std': stdev(defined) if len(defined) > 1 else None,
                'images': measured and interval(np.mean([*measured.seeds.values()], axis=0)[1:]),
            }
    return {
        'config': method.config.as_posix(),
        'options': dict(method.options),
        'note': method.note,
        'paper': dict(method.paper),
        'metrics': metrics,
        'parameters': costs[0]['parameters'] if costs else None,
        'flops': costs[0]['flops'] if costs else None,
        'seconds': fmean(cost['seconds'] for cost in costs) if costs else None,
        'activation_bytes': costs[0].get('activation_bytes') if costs else None,
        'device': ', '.join(sorted({cost['device'] for cost in costs})),
        'trained_again': any(seed['trained_again'] for seed in seeds.values()),
        'seeds': {str(seed): of_seed for seed, of_seed in seeds.items()},
    }


def _seed_report(suite: Suite, table: PerImageTable, runs: Sequence[Run]) -> Report:
    """What one seed found: in cross-validation on the images of all folds, and the folds' mean of other results."""
    notes = [run.noted() for run in runs]
    names = dict.fromkeys(name for note in notes for name in note['results'])
    results = {
        name: fmean(values)
        for name in names
        if (values := [n['results'][name] for n in notes if n['results'].get(name) is not None])
    }
    if suite.folds:
        for name in results:
            if (pooled := resampled_metric(name, table, np.ones((1, len(table))))) is not None:
                results[name] = float(pooled[0])
    packages = dict.fromkeys(package for note in notes for package in note.get('made_with', {}))
    return {
        'results': results,
        'costs': [note['cost'] for note in notes],
        'finished': max((note.get('finished', '') for note in notes), default=''),
        'made_with': {p: ' and '.join(sorted({n['made_with'][p] for n in notes})) for p in packages},
        'networks': [note.get('networks') for note in notes],
        'trained_again': any(note.get('networks', {}).get('trained_again') for note in notes),
    }


def verdict(metric: str, ends: tuple[float, float], margin: float | None) -> str:
    """What an interval says of the first method: better, worse, equivalent within ±margin, or undecided.

    Of errors (``MAE_...``), less is better.
    """
    low, high = ends
    if low > 0 or high < 0:
        return 'better' if (low > 0) != metric.rpartition('/')[2].startswith('MAE') else 'worse'
    if margin is not None and -margin <= low and high <= margin:
        return f'equivalent within ±{margin:g}'
    return 'undecided'


def compare(first: Measured, second: Measured, same_origin: bool) -> Report:
    """The difference of one metric and its intervals.

    Methods of one origin are compared on the seeds that both have, others each with its own.
    """
    paired = sorted({*first.seeds} & {*second.seeds}) if same_origin else []
    pair = [np.array([method.seeds[seed] for seed in paired or method.seeds]) for method in (first, second)]
    one, other = (np.array([method.parts[seed] for seed in paired or method.seeds]).T for method in (first, second))
    observed, resampled = zip(*((values[:, 0], values[:, 1:]) for values in pair), strict=True)
    return difference(observed, resampled, bool(paired), (one, other))._asdict() | {'paired_seeds': paired}
