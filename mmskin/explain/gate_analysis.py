"""From a checkpoint to a folder that shows what its gates do."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.errors import Mistake
from mmskin.explain.gate_figures import draw_maps, draw_rates
from mmskin.explain.gate_table import Group, correlations, groups, read_gates, write_rates
from mmskin.files import markdown_table, write_text
from mmskin.registry import MODELS, as_config

__all__ = ['analyse_gates']

EXPLANATION = """The rate of a route is the mean, over channels and positions, of a number from 0 to 1 that says:"""
INTERVALS = """Means over images with 95 % bootstrap intervals, where there are ten images or more; one interval in \
twenty misses by chance."""


def analyse_gates(cfg: Config, checkpoint: str | Path, out_dir: str | Path, num_images: int = 6) -> Path:
    """Test a network and write what its gates did.

    Args:
        cfg: A config with ``work_dir`` set, of a network whose operators have gates.
        checkpoint: A checkpoint file, or the work folder of a finished training.
        out_dir: Gets ``rates.csv`` (a row per image), ``rates.png``, ``maps.png`` and ``gates.md``, beside the test's
            own files and the maps themselves (``gates.npz``).
        num_images: How many images ``maps.png`` shows.

    Returns:
        The path of ``gates.md``.

    Raises:
        Mistake: if no operator of the network has gates, or no image is to be shown.
    """
    if num_images < 1:
        raise Mistake(f'num_images={num_images}: give one or more for the picture of maps')
    out_dir = Path(out_dir)
    recorded = out_dir / 'gates.npz'
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), {'type': 'GateRecorder', 'out_file': str(recorded)}]
    passing = cfg.model.get('passing') or {}
    evaluate_checkpoint(cfg, checkpoint, out_dir)
    table = read_gates(recorded, out_dir)
    found, meanings = groups(table), quantities(passing, table.rates)
    write_rates(out_dir / 'rates.csv', table)
    write_text(out_dir / 'gates.md', summary(meanings, found, correlations(table)))
    draw_rates(table, found, out_dir / 'rates.png')
    draw_maps(table, out_dir / 'maps.png', num_images)
    return out_dir / 'gates.md'


def quantities(passing: Mapping[str, dict], routes: Iterable[str]) -> dict[str, str]:
    """What the rates of ``routes``, named ``<block>/<route>``, are a mean of, by operator; their configs by block."""
    blocks = {route.rpartition('/')[0] for route in routes}
    types = [as_config(cfg)['type'] for block, cfg in passing.items() if block in blocks]
    operators: list[Any] = [MODELS.get(kind) for kind in types]
    return {operator.__name__: operator.quantity for operator in operators}


def summary(meanings: Mapping[str, str], found: Sequence[Group], related: list[tuple[str, str, float, float]]) -> str:
    """What rates are, rates by group, and rank correlations, in Markdown."""
    lines = ['# What the gates do', '', EXPLANATION, '']
    lines += [f'- {operator}: {quantity}.' for operator, quantity in meanings.items()]
    rates = [
        (route, name, str(n), f'{mean:.3f}', '–' if isnan(low) else f'{low:.3f} to {high:.3f}')
        for route, name, n, mean, (low, high) in found
    ]
    lines += ['', INTERVALS, '', markdown_table(['route', 'images', 'number', 'rate', '95 % interval'], rates)]
    ranks = [(route, name, f'{rho:+.2f}', f'{p:.2g}') for route, name, rho, p in related]
    lines += ['', markdown_table(['route', 'with', "Spearman's rho", 'p'], ranks)]
    return '\n'.join(lines) + '\n'
