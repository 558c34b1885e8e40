"""Which differences a suite's design can see, told before anything trains."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, norm
from scipy.stats import t as student

from mmskin.benchmark.collect import join, read_record, resampled_metric
from mmskin.benchmark.fingerprint import build_dataset
from mmskin.benchmark.runs import Run, deal_folds
from mmskin.benchmark.suite import Suite
from mmskin.datasets.task_dataset import read_folds
from mmskin.evaluation.statistics import LEVEL, image_counts
from mmskin.files import markdown_table

WANTED = 0.8
NUM_RESAMPLES = 500
MEANING = """Two-sided, 5 %, for the interval over images and seeds by which verdicts are given (with one seed: over \
images, as if seeds did not matter). *Smallest difference*: found four times in five. *Chance*: of finding the \
difference that the suite names, and of "equivalent" where nothing differs. All this where methods share starts or \
networks; others need more."""


class Noise(NamedTuple):
    """How two trainings of one method differ in a metric.

    Attributes:
        images: variance over images of the difference between two seeds: of accuracy the churn.
        seeds: variance of networks by their seed, beyond what the images explain.
        source: where this is from.
    """

    images: float
    seeds: float
    source: str


def power_report(suite: Suite, runs: Sequence[Run]) -> str:
    """A Markdown table: what the suite can see with its seeds, and with more or fewer."""
    if suite.folds:
        deal_folds(runs)
        num_images = len(read_folds(runs[0].folds_file))
    else:
        num_images = len(build_dataset(runs[0].config('test').test_dataloader.dataset))
    num_folds = suite.folds.count if suite.folds else 1
    rows = []
    for metric in suite.metrics:
        noise = _noise(suite, runs, metric)
        for num_seeds in sorted({1, 2, 3, len(suite.seeds)}):
            if noise is None:
                rows.append(
                    [metric, str(num_seeds), *['–'] * 3, 'unknown: no two seeds are finished, nothing is assumed']
                )
                break

            is_share = metric.endswith('/AC')
            chance = partial(
                chance_to_see, noise=noise, images=num_images, seeds=num_seeds, folds=num_folds, is_share=is_share
            )
            smallest = 0.0 if chance(1e-6) >= WANTED else None  # where seeds agree on every image
            if smallest is None and chance(1.0) > WANTED:
                smallest = brentq(lambda size, chance=chance: chance(size) - WANTED, 1e-6, 1.0)
            named, margin = suite.power.difference.get(metric), suite.margins.get(metric)
            none = 1.0  # the chance that the whole interval is within ±margin where nothing differs
            error, _, half = _error(0.0, noise, num_images, num_seeds, num_folds, False)
            if margin is not None and error:
                none = max(0.0, 2 * float(norm.cdf((margin - half) / error)) - 1)
            rows.append(
                [
                    metric,
                    f'**{num_seeds}**' if num_seeds == len(suite.seeds) else str(num_seeds),
                    '–' if smallest is None else f'{smallest:.3f}',
                    '–' if named is None else f'{chance(abs(named)):.2f} of ±{abs(named):g}',
                    '–' if margin is None else f'{none:.2f} of none within ±{margin:g}',
                    noise.source,
                ]
            )
    design = f'{num_images} images' + (f' in {num_folds} folds' if suite.folds else '')
    head = ['metric', 'seeds', 'smallest difference', 'chance', 'chance of equivalent', 'from']
    return '\n\n'.join([f'# What {suite.name} can see: {design}', markdown_table(head, rows), MEANING]) + '\n'


def _noise(suite: Suite, runs: Sequence[Run], metric: str) -> Noise | None:
    """The mean over methods and pairs of their finished seeds, on the folds that both have.

    Without such a pair it is what the suite assumes, if anything.
    """
    finished = {(run.method.name, run.seed, run.fold): run for run in runs if run.finished}
    images, seeds = [], []
    for method in suite.methods:
        for seed, other in combinations(suite.seeds, 2):
            folds = [
                f for f in suite.fold_numbers if {(method.name, seed, f), (method.name, other, f)} <= finished.keys()
            ]
            if not folds:
                continue
            tables = [
                join([read_record(finished[method.name, s, fold].record) for fold in folds]) for s in (seed, other)
            ]
            tables[1] = tables[1].aligned(tables[0].image_ids)
            count = len(tables[0])
            counts = np.vstack([np.ones(count), image_counts(count, NUM_RESAMPLES, np.random.default_rng(0))])
            first, second = (resampled_metric(metric, table, counts) for table in tables)
            if first is None or second is None or not np.isfinite(first[0] - second[0]):
                continue
            images.append(count * float(np.nanvar(first[1:] - second[1:])))
            seeds.append(len(folds) * ((first[0] - second[0]) ** 2 - images[-1] / count) / 2)
    if images:
        return Noise(float(np.mean(images)), max(float(np.mean(seeds)), 0.0), f'{len(images)} pairs of seeds')
    assumed = suite.power
    if metric in assumed.sd:
        variance = assumed.sd[metric] ** 2
    elif metric.endswith('/AC') and assumed.churn is not None:
        variance = assumed.churn
    else:
        return None
    return Noise(variance, assumed.seed_sd.get(metric, 0.0) ** 2, 'the suite')


def _error(difference: float, noise: Noise, images: int, seeds: int, folds: int, is_share: bool) -> tuple[float, ...]:
    """Standard error of a difference, degrees of freedom, and half the width of its interval.

    A share such as accuracy cannot change without images that change: these vary by image and not by seed.
    """
    by_seed = noise.images / images / seeds + 2 * noise.seeds / seeds / folds
    shared = abs(difference) * (1 - abs(difference)) / images if is_share else 0.0
    error = float(np.sqrt(by_seed + shared))
    if seeds == 1:
        return error, np.inf, float(norm.ppf((1 + LEVEL) / 2) * np.sqrt(noise.images / images + shared))
    freedom = (by_seed + shared) ** 2 / (by_seed**2 / (folds * (seeds - 1))) if by_seed else np.inf
    return error, freedom, float(student.ppf((1 + LEVEL) / 2, freedom)) * error


def chance_to_see(
    difference: float, noise: Noise, images: int, seeds: int, folds: int = 1, is_share: bool = False
) -> float:
    """How likely the interval of a true difference above 0 leaves out 0.

    The variance of the difference is that of images, noise / (images x seeds), and of seeds, 2 x noise / (seeds x
    folds), since each fold has networks of its own; degrees of freedom are those of ``statistics.standard_error``.
    """
    error, freedom, half = _error(difference, noise, images, seeds, folds, is_share)
    if error == 0:
        return 1.0
    if not np.isfinite(freedom):
        return float(norm.cdf((difference - half) / error))
    return float(nct.sf(half / error, freedom, difference / error))
