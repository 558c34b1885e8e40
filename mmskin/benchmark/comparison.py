"""The comparison of the methods of a suite: its table in Markdown, and its figure."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mmskin.benchmark.collect import NUM_RESAMPLES, resampled_metric
from mmskin.drawing import save_figure
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import image_counts, interval
from mmskin.files import markdown_table, signed, write_json, write_text

EXPLANATION = """Mean ± standard deviation over seeds, with the paper's number in brackets. Parameters of the network; \
FLOPs of one image (a multiplication and an addition are two) with all views of test-time augmentation; time of one \
image in batches of one, from normalisation to the mask at its own size; activations that training keeps for an \
image's gradients."""
COSTS = [('parameters', 1e6, 2), ('flops', 1e9, 2), ('seconds', 1e-3, 1), ('activation_bytes', 1e6, 1)]
MAX_LISTED = 6  # runs that are not finished, by name
IMAGES = """percentiles of {resamples} bootstrap resamples of the images, paired by image: these networks on other \
images, whatever another training would give"""
IMAGES_AND_SEEDS = """the difference ± Student's t times its standard error over seeds and, by {resamples} bootstrap \
resamples paired by image, over images (Obuchowski, Rockette and Hillis), and never less than over images alone: the \
methods trained again, and tested on other images"""
DIFFERENCES = f"""{{level:.0%}} intervals. *Images*: {IMAGES}. *Images and seeds*, which takes two seeds: \
{IMAGES_AND_SEEDS}. An interval without 0 is bold. If nothing differed, about one in twenty at most of those over \
images and seeds would be so, and more of those over images alone."""
FROM_BASELINE = f"""Each method minus {{baseline}}, with {{level:.0%}} intervals: {IMAGES_AND_SEEDS}. An interval \
without 0 is bold: of the {{count}} here, about {{by_chance:.1f}} at most would be so if nothing differed."""
ONE_SEED = f"""Intervals of a single seed are {{level:.0%}} {IMAGES}; how many are bold by chance is not known."""


def write_comparison(report: dict[str, Any], folder: str | Path) -> Path:
    """Write ``<suite>.json``, ``<suite>.md`` and ``<suite>.png``; gives the second.

    Its table has a row for each method: metrics as ``0.801 ± 0.004 (0.801)``, and a dash for what was not measured.
    """
    path = Path(folder, f'{report["suite"]}.md')
    write_json(path.with_suffix('.json'), report, indent=1)
    rows = []
    for name, method in report['methods'].items():
        row = [name, str(len(method['seeds']))]
        for metric, scores in method['metrics'].items():
            value = f'{scores["mean"]:.3f}' if scores else '–'
            spread = f' ± {scores["std"]:.3f}' if scores and scores['std'] is not None else ''
            paper = method['paper'].get(metric)
            row.append(value + spread + ('' if paper is None else f' ({paper:.3f})'))
        for key, unit, digits in COSTS:
            row.append('–' if method[key] is None else f'{method[key] / unit:.{digits}f}')
        rows.append(row)
    head = ['method', 'seeds', *report['metrics'], 'parameters (M)', 'GFLOPs', 'ms per image', 'activations (MB)']
    parts = [f'# {report["title"]}', markdown_table(head, rows), EXPLANATION, notes(report)]
    if report['differences']:
        parts += ['## Differences', *differences(report)]
    write_text(path, '\n\n'.join(parts) + '\n')
    draw(report, path.with_suffix('.png'))
    return path


def notes(report: dict[str, Any]) -> str:
    """What a reader of the table has to know."""
    methods = report['methods']
    devices = sorted({method['device'] for method in methods.values() if method['device']})
    lines = [f'- Time measured on: {"; ".join(devices)}.']
    users: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    names: set[str] = set()
    for name, method in methods.items():
        for seed in method['seeds'].values():
            names |= {*seed['results']}
            for package, version in seed.get('made_with', {}).items():
                users[package][version].append(name)
    for package, versions in users.items():
        if len(versions) > 1:
            used = [f'{version} ({", ".join(dict.fromkeys(by))})' for version, by in versions.items()]
            lines.append(f'- Runs were made with different versions of {package}: {"; ".join(used)}.')
    for metric in report['metrics']:
        if metric not in names:
            lines.append(f'- **No run measured {metric}**; they measured {", ".join(sorted(names))}.')
    lines += [f'- {name}: {method["note"]}' for name, method in methods.items() if method['note']]
    if report['may_differ']:
        lines.append(f'- The suite allows the methods to differ in: {", ".join(report["may_differ"])}.')
    if any(row['paired_seeds'] for row in report['differences']):
        lines.append('- Methods with a common start or the same networks are compared on the seeds that both have.')
    if report['partial']:
        lines.append(f'- **Left out until all folds of the seed are finished**: {"; ".join(report["partial"])}.')
    if report['unfinished']:
        first, more = report['unfinished'][:MAX_LISTED], len(report['unfinished']) - MAX_LISTED
        listed = '; '.join(first) + (f'; and {more} more' if more > 0 else '')
        lines.append(f'- **Not finished, and not in the table**: {listed}.')
    return '\n'.join(lines)


def differences(report: dict[str, Any]) -> list[str]:
    """The table of differences, and what its intervals mean.

    Without a baseline it has a row for each pair of methods and metric, with one a row for each method.
    """
    rows, baseline = report['differences'], report['baseline']
    if baseline is None:
        head = ['metric', 'method', 'minus', 'difference', 'images', 'images and seeds', 'verdict']
        cells = [
            [row['metric'], row['first'], row['second'], *signed(row['value'])]
            + [*(interval_cell(row[kind]) for kind in ('images', 'images_and_seeds')), row['verdict']]
            for row in rows
        ]
        return [markdown_table(head, cells), DIFFERENCES.format(**report)]
    by_method: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        ends = interval_cell(row['images_and_seeds'] or row['images'])
        by_method[row['first']][row['metric']] = f'{signed(row["value"])[0]} ({ends}) {row["verdict"]}'
    cells = [[name, *(row.get(metric, '–') for metric in report['metrics'])] for name, row in by_method.items()]
    count = sum(row['images_and_seeds'] is not None for row in rows)
    by_chance = count * (1 - report['level'])
    meaning = [FROM_BASELINE.format(**report, count=count, by_chance=by_chance)] if count else []
    meaning += [ONE_SEED.format(**report)] if count < len(rows) else []
    return [markdown_table([f'minus {baseline}', *report['metrics']], cells), ' '.join(meaning)]


def paired_table(
    pairs: Sequence[tuple[PerImageTable, PerImageTable]],
    metrics: Sequence[str],
    names: tuple[str, str],
    groups: np.ndarray | None = None,
) -> str:
    """Two tests, their difference and its interval over images, paired by image, as Markdown.

    Args:
        pairs: the tables of both, with the same images in the same order; of several seeds the mean counts.
        metrics: keys of ``results.json``; a line names those that do not follow from the tables, or are undefined.
        names: what the two are called.
        groups: see ``image_counts``.
    """
    for first_table, second_table in pairs:
        check_same_truth(first_table, second_table)
    num_images = len(pairs[0][0])
    counts = image_counts(num_images, NUM_RESAMPLES, np.random.default_rng(0), groups)
    counts = np.vstack([np.ones(num_images), counts])
    rows, left_out = [], []
    for metric in metrics:
        by_seed = [[resampled_metric(metric, table, counts) for table in pair] for pair in pairs]
        if any(values is None or np.isnan(values[0]) for pair in by_seed for values in pair):
            left_out.append(metric)
            continue
        first, second = np.mean(np.array(by_seed), axis=0)
        change = f'{signed(first[0] - second[0])[0]} ({interval_cell(interval((first - second)[1:]))})'
        rows.append([metric, f'{first[0]:.3f}', f'{second[0]:.3f}', change])
    if not rows:
        raise Mistake(
            'the two have no metric in common that follows from their tables; compare tests of the same tasks'
        )
    left = [f'\nLeft out, since a table lacks it or it is undefined: {", ".join(left_out)}.'] if left_out else []
    return '\n'.join([markdown_table(['', *names, 'difference'], rows), *left])


def check_same_truth(first: PerImageTable, second: PerImageTable) -> None:
    """Make sure that two tables of the same images were tested against the same truth."""
    for task in first.tasks.keys() & second.tasks.keys():
        classes = [table.of(task).classes for table in (first, second)]
        if all(classes) and classes[0] != classes[1]:
            raise Mistake(
                f'{task} has the classes {", ".join(classes[0])} in one test, and {", ".join(classes[1])} in the other'
            )
        for name in ('gt_label', 'mask_share'):
            one, other = (table.columns.get(f'{task}/{name}') for table in (first, second))
            if one is None or other is None:
                continue
            same = np.isclose(one, other, atol=0.005, rtol=0.05, equal_nan=True)  # masks may have other sizes
            if not same.all():
                image_id = first.image_ids[int(np.argmin(same))]
                raise Mistake(
                    f'{image_id} has another {task}/{name} in the other test; compare tests of the same truth'
                )


def interval_cell(ends: tuple[float, float] | None) -> str:
    """An interval, bold if 0 lies outside."""
    if ends is None:
        return '–'
    mark = '**' if ends[0] > 0 or ends[1] < 0 else ''
    return f'{mark}{" to ".join(signed(*ends))}{mark}'


def draw(report: dict[str, Any], path: str | Path) -> None:
    """Draw a panel for each metric: seeds as dots, means with their intervals over images, the paper's numbers."""
    names = [name for name, method in report['methods'].items() if method['seeds']]
    figure = Figure(figsize=(2.2 + 2.6 * len(report['metrics']), 1.6 + 0.4 * len(names)), layout='constrained')
    panels = figure.subplots(1, len(report['metrics']), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, report['metrics'], strict=True):
        for row, name in enumerate(names):
            scores, paper = (report['methods'][name][key].get(metric) for key in ('metrics', 'paper'))
            if scores and scores['images'] is not None:
                panel.plot(scores['images'], [row, row], color='tab:blue', linewidth=2)
            if scores:
                panel.plot(scores['values'], np.full(len(scores['values']), row), '.', color='tab:blue', alpha=0.5)
                panel.plot(scores['mean'], row, 'o', color='tab:blue')
            if paper is not None:
                panel.plot(paper, row, 'x', color='tab:red')
        panel.set_title(metric)
        panel.grid(axis='x', alpha=0.3)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel(
        f'dots: seeds; bar: {report["level"]:.0%} interval over images of their mean; ×: the paper', fontsize=9
    )
    save_figure(figure, path, dpi=120)
