"""The table of a benchmark, in Markdown."""

import json
from pathlib import Path
from typing import Any

from mmskin.benchmark.figure import draw
from mmskin.evaluation.report import write_text

__all__ = ['markdown', 'write_report']

EXPLANATION = """Mean ± standard deviation over seeds, with the paper's number in brackets. Parameters of the network; \
FLOPs of one image (a multiplication and an addition are two) with all views of test-time augmentation; time of one \
image in batches of one, from normalisation to the mask at its own size; activations that training keeps for an \
image's gradients."""
COSTS = [('parameters', 1e6, 2), ('flops', 1e9, 2), ('seconds', 1e-3, 1), ('activation_bytes', 1e6, 1)]
DIFFERENCES = """With {level:.0%} bootstrap intervals from {resamples} resamples, paired by image. \
*Images*: these networks on other images. *Images and seeds*: the methods trained again, and tested on other images. \
An interval without 0 is bold; with this many intervals, one in twenty is so by chance."""


def write_report(report: dict[str, Any], folder: str | Path) -> Path:
    """Write ``<suite>.json``, ``<suite>.md`` and ``<suite>.png``; gives the second."""
    path = Path(folder, f'{report["suite"]}.md')
    write_text(path.with_suffix('.json'), json.dumps(report, indent=1) + '\n')
    write_text(path, markdown(report))
    draw(report, path.with_suffix('.png'))
    return path


def markdown(report: dict[str, Any]) -> str:
    """Heading, table, notes and differences."""
    parts = [f'# {report["title"]}', methods_table(report), EXPLANATION, *notes(report)]
    if report['differences']:
        parts += ['## Differences', differences_table(report), DIFFERENCES.format(**report)]
    return '\n\n'.join(parts) + '\n'


def methods_table(report: dict[str, Any]) -> str:
    """One row for each method."""
    head = ['method', 'seeds', *report['metrics'], 'parameters (M)', 'GFLOPs', 'ms per image', 'activations (MB)']
    return table(head, [method_row(name, method) for name, method in report['methods'].items()])


def method_row(name: str, method: dict[str, Any]) -> list[str]:
    """The cells of one method."""
    metrics = [metric_cell(found, method['paper'].get(metric)) for metric, found in method['metrics'].items()]
    costs = [cost_cell(method[key], unit, digits) for key, unit, digits in COSTS]
    return [name, str(len(method['seeds'])), *metrics, *costs]


def cost_cell(value: float | None, unit: float, digits: int) -> str:
    """A cost in ``unit``, or a dash where it was not measured."""
    return '–' if value is None else f'{value / unit:.{digits}f}'


def metric_cell(found: dict[str, Any] | None, paper: float | None) -> str:
    """A metric as ``0.801 ± 0.004 (0.801)``."""
    value = '–' if found is None else f'{found["mean"]:.3f}'
    spread = f' ± {found["std"]:.3f}' if found and found['std'] is not None else ''
    return value + spread + (f' ({paper:.3f})' if paper is not None else '')


def notes(report: dict[str, Any]) -> list[str]:
    """What a reader of the table has to know."""
    devices = sorted({method['device'] for method in report['methods'].values() if method['device']})
    lines = [f'- Time measured on: {"; ".join(devices)}.']
    lines += [f'- {name}: {method["note"]}' for name, method in report['methods'].items() if method['note']]
    if report['may_differ']:
        lines.append(f'- The suite allows the methods to differ in: {", ".join(report["may_differ"])}.')
    if report['unfinished']:
        lines.append(f'- **Not finished, and not in the table**: {"; ".join(report["unfinished"])}.')
    return ['\n'.join(lines)]


def differences_table(report: dict[str, Any]) -> str:
    """One row for each pair of methods and metric."""
    head = ['metric', 'method', 'minus', 'difference', 'images', 'images and seeds']
    rows = [
        [row['metric'], row['first'], row['second'], f'{row["value"]:+.3f}']
        + [interval_cell(row[kind]) for kind in ('images', 'images_and_seeds')]
        for row in report['differences']
    ]
    return table(head, rows)


def interval_cell(ends: tuple[float, float] | None) -> str:
    """An interval, bold if 0 lies outside."""
    if ends is None:
        return '–'
    mark = '**' if ends[0] > 0 or ends[1] < 0 else ''
    return f'{mark}{ends[0]:+.3f} to {ends[1]:+.3f}{mark}'


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in lines)
