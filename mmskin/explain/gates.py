"""What a network's routes and gates do on a test set: from a checkpoint to a folder of tables and pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, ScalarFormatter
from mmengine.config import Config
from scipy.stats import spearmanr

from mmskin.drawing import MAP_COLORS, overlay, read_thumbnail, save_figure
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.statistics import FEWEST, NUM_RESAMPLES, Interval, image_counts, interval, weighted_mean
from mmskin.files import markdown_table, write_unless_edited
from mmskin.models.averaging import member_configs
from mmskin.models.routes import NOTHING
from mmskin.registry import MODELS, as_config, checked

MOVED = """Closing a route is predicting without it. It moves a diagnosis by the largest change of any class's \
probability, a mask by 1 - Jaccard index of the two, and other values by their largest change, in the plain view."""

EXPLANATION = """The rate of a route is the mean, over channels and positions, of a number from 0 to 1 that says:"""
INTERVALS = """Means over images with 95 % bootstrap intervals, where there are ten images or more; one interval in \
twenty misses by chance."""


@dataclass(frozen=True)
class GateTable:
    """What was recorded of a test set's N images.

    Attributes:
        tested: What the test measured on them.
        img_paths: The image files.
        maps: Means over channels (N, h, w) by block and route, of those with gates.
        closing: How far closing each route moves the answer of each task, (N,) by block and route, and by task.
        flips: Whether it changes the diagnosis, likewise by classification.
    """

    tested: PerImageTable
    img_paths: list[str]
    maps: dict[str, np.ndarray]
    closing: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    flips: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @cached_property
    def rates(self) -> dict[str, np.ndarray]:
        """The mean rate of each image (N,), by block and route; of what, the operator's ``quantity`` says."""
        return {name: maps.astype(np.float64).mean(axis=(1, 2)) for name, maps in self.maps.items()}

    @property
    def largeness(self) -> dict[str, np.ndarray]:
        """What rates are compared with, (N,) each: lesion size and JA, as far as the test has them."""
        values = {'lesion size': self.tested.mask_share, 'JA': self.tested.column(self.tested.outline, 'JA')}
        return {name: value for name, value in values.items() if not np.isnan(value).all()}


class Group(NamedTuple):
    """The mean rate of a route over some of the images, with its bootstrap interval; nan on too few for one."""

    route: str
    name: str
    num_images: int
    mean: float
    ends: Interval


@checked
def analyse_gates(cfg: Config, checkpoint: str | Path, out_dir: str | Path, num_images: int = 6) -> Path:
    """Test a network and write what its routes and their gates did.

    Args:
        cfg: A config with ``work_dir`` set, of a network with feature passing.
        checkpoint: A checkpoint file, or the work folder of a finished training.
        out_dir: Gets ``rates.csv`` (a row per image) and ``gates.md``, and of operators with gates ``rates.png`` and
            ``maps.png``, next to the test's own files and all that was found (``gates.npz``).
        num_images: How many images ``maps.png`` shows.

    Returns:
        The path of ``gates.md``.

    Raises:
        Mistake: if the network passes no features, or no image is to be shown.
    """
    if num_images < 1:
        raise Mistake(f'num_images={num_images}: give one or more for the picture of maps')
    out_dir = Path(out_dir)
    recorded = out_dir / 'gates.npz'
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), {'type': 'GateRecorder', 'out_file': str(recorded)}]
    models = member_configs(cfg.model)
    passing = {place: operator for model in models for place, operator in (model.get('passing') or {}).items()}
    evaluate_checkpoint(cfg, checkpoint, out_dir)
    table = read_gates(recorded, out_dir)
    columns = {f'rate/{name}': values for name, values in table.rates.items()}
    for name, moved in table.closing.items():
        columns |= {f'closing/{name}/{task}': values for task, values in moved.items()}
    PerImageTable(table.tested.image_ids, columns | table.tested.columns).write(out_dir / 'rates.csv')
    means = groups(table)
    text = effects(table)
    if table.rates:
        text += '\n' + summary(passing, table.rates, means, correlations(table))
    written = write_unless_edited(out_dir / 'gates.md', text)
    if table.rates:
        draw_rates(table, means, out_dir / 'rates.png')
        draw_maps(table, out_dir / 'maps.png', num_images)
    return written


@checked
def read_gates(recorded: str | Path, folder: str | Path) -> GateTable:
    """Join what ``GateRecorder`` wrote with the table in the folder of the same test."""
    tested = PerImageTable.read(folder)
    with np.load(recorded) as file:
        arrays = dict(file)
    names, paths = arrays.pop('image_id').tolist(), arrays.pop('img_path').tolist()
    places = {image_id: index for index, image_id in enumerate(names)}
    order = [places[image_id] for image_id in tested.image_ids]
    maps: dict[str, np.ndarray] = {}
    by_task: dict[str, dict[str, dict[str, np.ndarray]]] = {'closing': {}, 'flips': {}}
    for name, values in arrays.items():
        kind, _, rest = name.partition('/')
        if kind in by_task:
            route, _, task = rest.rpartition('/')
            by_task[kind].setdefault(route, {})[task] = values[order]
        else:
            maps[name] = values[order]
    return GateTable(tested, [paths[index] for index in order], maps, **by_task)


def effects(table: GateTable) -> str:
    """What each route does, in Markdown: how open its gate is, how that varies, and how far closing it moves answers.

    A route that moves nothing is said to.
    """
    number = len(table.tested)
    rows, idle = [], []
    for route, moved in table.closing.items():
        maps = table.maps[route].astype(np.float64) if route in table.maps else None
        gate = ['–'] * 3
        if maps is not None:
            rates = maps.mean(axis=(1, 2))
            low, high = np.percentile(rates, (5, 95))
            gate = [
                f'{rates.mean():.3f}',
                f'{rates.std():.4f} ({low:.3f} to {high:.3f})',
                f'{maps.std((1, 2)).mean():.4f}',
            ]
        flips = table.flips.get(route, {})
        for task, values in moved.items():
            decided = f'{int(flips[task].sum())} of {number}' if task in flips else '–'
            rows.append((route, *gate, task, f'{values.mean():.2g}', f'{values.max():.2g}', decided))
            gate = [''] * 3
        if not any(some.any() for some in flips.values()) and all((some <= NOTHING).all() for some in moved.values()):
            idle.append(route)
    names = [
        'route',
        'gate, mean',
        'its SD from image to image (5 to 95 %)',
        'and over an image',
        'closing the route moves',
        'on average by',
        'at most by',
        'decided otherwise',
    ]
    lines = ['# What the routes do', '', MOVED, '', markdown_table(names, rows), '']
    lines += [f'- **Closing {route} moves nothing**: no answer by more than {NOTHING}.' for route in idle]
    return '\n'.join(lines).rstrip() + '\n'


def groups(table: GateTable) -> list[Group]:
    """The mean rate of every route with 95 % bootstrap intervals over images.

    Groups are all images, each true class, right and wrong diagnoses, small and large lesions, as far as there are any.
    """
    tested = table.tested
    members = {'all images': np.ones(len(tested), bool)}
    members |= {name: tested.labels == index for index, name in enumerate(tested.classes)}
    members |= {'right diagnosis': tested.right == 1, 'wrong diagnosis': tested.right == 0}
    members |= {f'{size} lesions': group for size, group in tested.size_groups.items() if size != 'medium'}
    counts = image_counts(len(tested), NUM_RESAMPLES, np.random.default_rng(0))
    means = []
    for route, rates in table.rates.items():
        for name, inside in members.items():
            number = int(inside.sum())
            if not number:
                continue
            ends = (np.nan, np.nan)
            if number >= FEWEST:
                ends = interval(weighted_mean(np.where(inside, rates, np.nan), counts))
            means.append(Group(route, name, number, float(rates[inside].mean()), ends))
    return means


def correlations(table: GateTable) -> list[tuple[str, str, float, float]]:
    """Spearman's rank correlation of each route's rate with lesion size and JA: (route, with, rho, p)."""
    ranks = []
    for route, rates in table.rates.items():
        for name, values in table.largeness.items():
            defined = ~np.isnan(values)
            if defined.sum() > 2:
                result = spearmanr(rates[defined], values[defined])
                ranks.append((route, name, float(result.statistic), float(result.pvalue)))
    return ranks


def summary(
    passing: Mapping[Any, dict],
    routes: Iterable[str],
    means: Sequence[Group],
    ranks: Sequence[tuple[str, str, float, float]],
) -> str:
    """What rates are, rates by group, and rank correlations, in Markdown.

    Args:
        passing: The operators' configs by place: a block, or a level such as '/16'.
        routes: Those with rates, named ``<block>/<route>``.
        means: See ``groups``.
        ranks: See ``correlations``.
    """
    blocks = {route.rpartition('/')[0] for route in routes}
    quantities: dict[str, str] = {}
    for place, cfg in passing.items():
        if not isinstance(place, str) or '/' in place or place in blocks:  # a level goes by its block in ``routes``
            operator: Any = MODELS.get(as_config(cfg)['type'])
            quantities[operator.__name__] = operator.quantity
    lines = ['# What the gates do', '', EXPLANATION, '']
    lines += [f'- {operator}: {quantity}.' for operator, quantity in quantities.items() if quantity]
    rates = [
        (route, name, str(n), f'{mean:.3f}', '–' if isnan(low) else f'{low:.3f} to {high:.3f}')
        for route, name, n, mean, (low, high) in means
    ]
    lines += ['', INTERVALS, '', markdown_table(['route', 'images', 'number', 'rate', '95 % interval'], rates)]
    rows = [(route, name, f'{rho:+.2f}', f'{p:.2g}') for route, name, rho, p in ranks]
    lines += ['', markdown_table(['route', 'with', "Spearman's rho", 'p'], rows)]
    return '\n'.join(lines) + '\n'


def draw_rates(table: GateTable, groups: Sequence[Group], path: str | Path) -> None:
    """A row per route: mean rates of the groups with intervals, and the rate against lesion size and JA.

    A group's mean is a point on its interval; its name and size are to the left.
    """
    rates, others = table.rates, table.largeness
    figure = Figure(figsize=(4.2 + 3.2 * len(others), 3.2 * len(rates)), layout='constrained', dpi=120)
    grid = figure.subplots(len(rates), 1 + len(others), squeeze=False, width_ratios=[1.5] + [1.0] * len(others))
    for (axis, *axes), route in zip(grid, rates, strict=True):
        own = [group for group in groups if group.route == route]
        for row, group in enumerate(own):
            axis.plot(group.ends, [row, row], color='tab:blue', linewidth=2)
            axis.plot(group.mean, row, 'o', color='tab:blue', markersize=5)
        names = [f'{group.name.replace("_", " ")} ({group.num_images})' for group in own]
        axis.set_yticks(range(len(own)), names, fontsize=8)
        axis.invert_yaxis()
        axis.xaxis.set_major_locator(MaxNLocator(4))  # of long numbers, since means differ little
        axis.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        axis.set_xlabel('mean rate, 95 % interval', fontsize=8)
        axis.tick_params(which='both', labelsize=8)
        axis.grid(axis='x', alpha=0.3)
        axis.set_title(route, loc='left', fontsize=10, fontweight='bold')
        for axis, (name, values) in zip(axes, others.items(), strict=True):
            axis.plot(values, rates[route], '.', color='tab:blue', alpha=0.5, markersize=5)
            label = name
            if name == 'lesion size':
                axis.set_xscale('log')  # most are small
                known = values[values > 0]
                is_wide = known.size and known.max() > 10 * known.min()
                axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_wide else (1, 1.5, 2, 3, 4, 5, 7)))
                axis.xaxis.set_major_formatter(lambda value, _: f'{100 * value:g}')
                axis.xaxis.set_minor_formatter('')
                label = f'{name}, % of the image'
            axis.set_xlabel(label, fontsize=8)
            axis.set_ylabel('rate', fontsize=8)
            axis.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
            axis.tick_params(which='both', labelsize=8)
            axis.grid(alpha=0.3)
    save_figure(figure, path)


def draw_maps(table: GateTable, path: str | Path, num_images: int = 6) -> None:
    """Where the gates open: images from the lowest to the highest mean rate, one row of overlays per route.

    A map is drawn over the image in grey, with colours that run from its route's lowest to its highest rate in the
    picture.
    """
    order = np.argsort(np.mean(list(table.rates.values()), axis=0), kind='stable')
    places = np.linspace(0, len(order) - 1, min(num_images, len(order))).round().astype(int)
    chosen = order[places].tolist()
    images = [read_thumbnail(table.img_paths[index]) for index in chosen]
    rows = len(table.maps) + 1
    figure = Figure(figsize=(2.1 * len(chosen) + 1.2, 2.2 * rows + 0.3), layout='constrained', dpi=120)
    grid = figure.subplots(rows, len(chosen), squeeze=False)
    for axis, image, index in zip(grid[0], images, chosen, strict=True):
        axis.imshow(image)
        axis.set_title(table.tested.image_ids[index], fontsize=8)
    for axes, (route, maps) in zip(grid[1:], table.maps.items(), strict=True):
        shown = maps[chosen].astype(np.float32)
        scale = Normalize(float(shown.min()), float(shown.max()))
        for axis, image, rates in zip(axes, images, shown, strict=True):
            # colours of the image would mix with those of the map
            grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            axis.imshow(overlay(grey, rates, scale))
            axis.set_xlabel(f'mean {rates.mean():.2f}', fontsize=8)
        axes[0].set_ylabel(route, fontsize=9)
        bar = figure.colorbar(ScalarMappable(scale, MAP_COLORS), ax=list(axes), shrink=0.8, pad=0.01)
        bar.set_label('rate, mean over channels', fontsize=8)
        bar.ax.tick_params(labelsize=8)
    for axis in grid.flat:
        axis.set(xticks=[], yticks=[])
    save_figure(figure, path)
