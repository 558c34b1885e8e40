"""Draw the documentation's diagrams: ``python docs/draw_figures.py [NAME ...]``, all of them without a name.

What they show is taken from configs, from the code that they explain, or from painted lesions. Each SVG serves light
and dark pages: a rule in it exchanges the colours where the page around it is dark.
"""

import argparse
import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from sklearn.model_selection import StratifiedGroupKFold

import mmskin
from mmskin.benchmark.collect import verdict
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.drawing import thumbnail
from mmskin.masks import contours_of, irregularity, measure_lesion
from mmskin.models.weighting.from_gradients import CAGrad, PCGrad
from mmskin.models.weights import read_weights
from mmskin.readers.images import read_image

IMAGES = Path(__file__).parent / 'images'
PACKAGE = Path(mmskin.__file__).parent
SAMPLE = PACKAGE / 'samples' / 'painted_2.jpg'
TITLES = {'cls': 'diagnosis', 'seg': 'outline', 'shape': 'shape'}
LIGHT = {
    'text': '#1f2328',
    'line': '#59636e',
    'faint': '#d1d9e0',
    'shared': '#dbe7f5',
    'cls': '#fde5d3',
    'seg': '#d7f0e0',
    'shape': '#efe0f7',
    'blue': '#0969da',
    'orange': '#bc4c00',
    'green': '#1a7f37',
    'purple': '#8250df',
}
DARK = {
    'text': '#e6edf3',
    'line': '#9198a1',
    'faint': '#3d444d',
    'shared': '#1f3a5a',
    'cls': '#5a3418',
    'seg': '#17472c',
    'shape': '#432a58',
    'blue': '#58a6ff',
    'orange': '#f0883e',
    'green': '#3fb950',
    'purple': '#bc8cff',
}


def canvas(width: float, height: float, xlim: tuple[float, float], ylim: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure of ``width`` x ``height`` inches without axes."""
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=xlim, ylim=ylim)
    axis.set_axis_off()
    return figure, axis


def plot(width: float, height: float, **labels: str) -> tuple[Figure, Axes]:
    """A figure with axes in the page's colours."""
    figure = Figure(figsize=(width, height), layout='constrained')
    axis = figure.subplots()
    axis.set(**labels)
    axis.spines[['top', 'right']].set_visible(False)
    axis.patch.set_visible(False)
    return figure, axis


def box(
    axis: Axes, x: float, y: float, width: float, text: str, face: str, colors: dict[str, str], **more: Any
) -> None:
    """A rounded box about (x, y) with lines of text."""
    shape = FancyBboxPatch(
        (x - width / 2, y - 0.42), width, 0.84, boxstyle='round,pad=0.02,rounding_size=0.12', fc=face, ec=colors['line']
    )
    shape.set(**more)
    axis.add_patch(shape)
    axis.text(x, y, text, ha='center', va='center', fontsize=8.5, color=colors['text'], linespacing=1.4)


def lesion(axis: Axes, left: float, right: float, y: float = 0) -> None:
    """The painted lesion that goes into a network, between two places, 4 to 3."""
    half = 0.375 * (right - left)
    extent = (left, right, y - half, y + half)
    axis.imshow(thumbnail(read_image(SAMPLE)[0], 150), extent=extent, aspect='auto', interpolation='none', zorder=2)


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """An arrow between two points."""
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle='-|>', mutation_scale=10, color=color, shrinkA=0, shrinkB=0))


def gate(axis: Axes, x: float, y: float, colors: dict[str, str], text: str = 'G') -> None:
    """A small disc with a letter."""
    axis.plot(x, y, 'o', ms=13, mfc=colors['shared'], mec=colors['line'], zorder=3)
    axis.text(x, y - 0.01, text, ha='center', va='center', fontsize=8, color=colors['text'], zorder=4)


def network(config: str, colors: dict[str, str]) -> Figure:
    """Image, shared blocks, a branch for each task with the gates between them, heads and answers, as in a config."""
    model = load_config(config).model
    names = list(model.tasks)
    half = 1.1 * (len(names) - 1)
    figure, axis = canvas(9.6, 0.5 + 1.2 * len(names), (0, 12.8), (-half - 0.9, half + 0.75))
    lesion(axis, 0.15, 1.95)
    (site,) = model.passing
    chain = model.backbone.chain.get('model') or model.backbone.chain.type.removesuffix('Chain')
    arrow(axis, (1.95, 0), (2.3, 0), colors['line'])
    box(axis, 3.4, 0, 2.1, f'shared blocks\n{chain}\nto {model.backbone.split_after}', colors['shared'], colors)
    heights = np.linspace(half, -half, len(names))
    for name, y in zip(names, heights, strict=True):
        face = colors[name]
        arrow(axis, (4.48, 0.2 * np.sign(y)), (4.95, y), colors['line'])
        box(axis, 5.9, y, 1.8, f'{TITLES[name]} branch\nto {site}', face, colors)
        arrow(axis, (6.84, y), (8.0, y), colors['line'])
        box(axis, 8.75, y, 1.4, 'the blocks\nafter it', face, colors)
        arrow(axis, (9.49, y), (9.8, y), colors['line'])
        head = model.tasks[name].head.type.rpartition('.')[2].removeprefix('DepthwiseSeparable')
        box(axis, 10.55, y, 1.4, f'head\n{head}', face, colors)
        arrow(axis, (11.29, y), (11.6, y), colors['line'])
        answer = {'cls': 'nevus', 'seg': 'mask', 'shape': 'numbers'}[name]
        axis.text(11.7, y, answer, va='center', fontsize=9.5, weight='bold', color=colors['text'])
    for upper, lower in zip(heights, heights[1:], strict=False):
        arrow(axis, (7.2, upper - 0.15), (7.2, lower + 0.15), colors['line'])
        arrow(axis, (7.6, lower + 0.15), (7.6, upper - 0.15), colors['line'])
        for x in (7.2, 7.6):
            gate(axis, x, (upper + lower) / 2, colors)
    if len(names) > 2:
        arrow(axis, (6.98, heights[0] - 0.15), (6.98, heights[-1] + 0.15), colors['line'])
        arrow(axis, (7.82, heights[-1] + 0.15), (7.82, heights[0] - 0.15), colors['line'])
    middle = (heights[0] + heights[1]) / 2
    note = 'each message is weighed\nby a learned gate'
    axis.text(7.98, middle, note, va='center', fontsize=8, color=colors['text'])
    return figure


def paper(colors: dict[str, str]) -> Figure:
    """The paper's figure 1: the two networks, and inside the module what its equations compute."""
    figure, axis = canvas(9.6, 4.2, (0, 12.8), (-2.7, 2.9))
    line = colors['line']
    lesion(axis, 0.1, 1.6)
    arrow(axis, (1.6, 0), (1.9, 0), line)
    box(axis, 2.8, 0, 1.7, 'FeatureNet\neq. 1', colors['shared'], colors)
    arrow(axis, (3.66, 0.2), (4.0, 1.9), line)
    arrow(axis, (3.66, -0.2), (4.0, -1.9), line)
    module = Rectangle((5.85, -2.55), 4.35, 5.35, fc='none', ec=line, ls='--', lw=1)
    axis.add_patch(module)
    axis.text(8.0, 2.55, 'feature passing module, at conv4_22', ha='center', fontsize=8.5, color=colors['text'])
    for name, title, y, numbers in (
        ('cls', 'ClsNet', 1.9, ('$x_{cls}$', '$f_{cls}$', '4')),
        ('seg', 'SegNet\neq. 2', -1.9, ('$x_{seg}$', '$f_{seg}$', '5')),
    ):
        box(axis, 4.85, y, 1.6, title, colors[name], colors)
        arrow(axis, (5.67, y), (6.85, y), line)
        axis.text(6.2, y + 0.14, numbers[0], ha='center', fontsize=10, color=colors['text'])
        box(axis, 7.45, y, 1.1, 'block', colors[name], colors)
        arrow(axis, (8.02, y), (9.3, y), line)
        axis.text(8.5, y + 0.14, numbers[1], ha='center', fontsize=10, color=colors['text'])
        gate(axis, 9.5, y, colors, 'op')
        axis.text(9.78, y + 0.3, numbers[2], ha='center', fontsize=8.5, weight='bold', color=colors['text'])
        arrow(axis, (9.7, y), (10.5, y), line)
        box(axis, 11.2, y, 1.3, f'rest of\n{title.partition(chr(10))[0]}', colors[name], colors)
        arrow(axis, (11.87, y), (12.2, y), line)
    for start, turn, message, numbers, end in (
        (1.9, 0.55, 'cls', ('7', '9'), -1.9),
        (-1.9, -0.55, 'seg', ('6', '8'), 1.9),
    ):
        x = 6.55
        axis.plot([x, x], [start, turn], color=line, lw=1)
        arrow(axis, (x, turn), (7.0, turn + 0.22), line)
        arrow(axis, (x, turn), (7.0, turn - 0.22), line)
        for offset, text, number in ((0.22, f'$m_{{{message}}}$', numbers[0]), (-0.22, '$G$', numbers[1])):
            y = turn + offset
            axis.add_patch(Rectangle((7.0, y - 0.17), 0.75, 0.34, fc=colors['shared'], ec=line))
            axis.text(7.37, y - 0.01, text, ha='center', va='center', fontsize=9, color=colors['text'])
            axis.text(7.88, y - 0.01, number, va='center', fontsize=8.5, weight='bold', color=colors['text'])
            axis.plot([8.1, 8.55], [y, turn], color=line, lw=1)
        gate(axis, 8.7, turn, colors, '×')
        far = 9.35 if message == 'cls' else 9.62
        axis.plot([8.9, far], [turn, turn], color=line, lw=1)
        arrow(axis, (far, turn), (far, end - 0.22 * np.sign(end)), line)
    axis.text(12.25, 1.9, '3 classes', va='center', fontsize=8, color=colors['text'], rotation=90)
    axis.text(12.25, -1.9, 'mask, eq. 3', va='center', fontsize=8, color=colors['text'], rotation=90)
    return figure


def stages(colors: dict[str, str]) -> Figure:
    """Which parts each of the paper's stages trains, holds and leaves out, from its config."""
    cfg = load_config('configs/fpm/r101_isic2017.py')
    figure, axis = canvas(8.2, 2.9, (-0.2, 10.6), (-3.5, 0.75))
    parts = ('FeatureNet', 'ClsNet', 'SegNet', 'passing')
    for column, part in enumerate(parts):
        axis.text(3.2 + 2 * column, 0.4, part, ha='center', fontsize=9, color=colors['text'])
    for row, stage in enumerate(cfg.stages):
        model = stage.get('model', {})
        active, frozen = model.get('active_tasks', ['cls', 'seg']), model.get('frozen', [])
        epochs = stage.get('train_cfg', {}).get('max_epochs', cfg.train_cfg.max_epochs)
        axis.text(
            -0.1, -1.1 * row - 0.2, f'stage {row + 1}, {stage.name}', fontsize=9.5, weight='bold', color=colors['text']
        )
        axis.text(-0.1, -1.1 * row - 0.55, f'{epochs} epochs', fontsize=8.5, color=colors['text'])
        says = (
            'held' if 'shared' in frozen else 'trained',
            'trained' if 'cls' in active else 'held',
            'trained' if 'seg' in active else 'absent',
            'trained' if model.get('use_passing', True) else 'absent',
        )
        for column, (state, name) in enumerate(zip(says, ('shared', 'cls', 'seg', 'shape'), strict=True)):
            face = colors[name] if state == 'trained' else 'none'
            style = dict(linestyle='-' if state != 'absent' else ':')
            box(
                axis, 3.2 + 2 * column, -1.1 * row - 0.3, 1.7, '' if state == 'absent' else state, face, colors, **style
            )
    return figure


def folds(colors: dict[str, str]) -> Figure:
    """Images of made lesions dealt into five folds by the splitter that suites use: groups whole, classes even."""
    generator = np.random.default_rng(3)
    sizes = generator.choice([1, 1, 1, 2, 2, 3], 34)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.repeat(generator.choice(3, len(sizes), p=(0.25, 0.55, 0.2)), sizes)
    dealt = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(groups, labels, groups)
    figure, axis = canvas(7.6, 2.7, (-1.6, 16.2), (-6.2, 0.7))
    for row, (_, held) in enumerate(dealt):
        axis.text(-1.5, -1.15 * row, f'fold {row + 1}', va='center', fontsize=9, color=colors['text'])
        x = 0.0
        for group in dict.fromkeys(groups[held]):
            members = held[groups[held] == group]
            color = colors[('orange', 'blue', 'green')[labels[members[0]]]]
            axis.plot([x, x + len(members) - 1], [-1.15 * row] * 2, color=color, lw=4, solid_capstyle='round')
            axis.plot(x + np.arange(len(members)), [-1.15 * row] * len(members), 'o', ms=11, color=color)
            x += len(members) + 0.25
    for number, (name, color) in enumerate((('melanoma', 'orange'), ('nevus', 'blue'), ('keratosis', 'green'))):
        axis.plot(3.4 * number, -5.75, 'o', ms=9, color=colors[color])
        axis.text(3.4 * number + 0.4, -5.77, name, va='center', fontsize=9, color=colors['text'])
    axis.plot([10.2, 11.2], [-5.75] * 2, 'o-', ms=9, lw=4, color=colors['line'])
    axis.text(11.6, -5.77, 'images of one lesion', va='center', fontsize=9, color=colors['text'])
    return figure


def verdicts(colors: dict[str, str]) -> Figure:
    """Made intervals of a difference in AC with the verdict that a report gives them."""
    margin = 0.012
    figure, axis = plot(7.2, 2.7, xlabel='difference in AC, and its 95 % interval')
    axis.axvspan(-margin, margin, color=colors['faint'], alpha=0.6, lw=0)
    axis.axvline(0, color=colors['line'], lw=1)
    for row, ends in enumerate(((0.004, 0.030), (-0.026, -0.006), (-0.008, 0.009), (-0.007, 0.021), (0.001, 0.008))):
        said = verdict('cls/AC', ends, margin)
        name = {'better': 'green', 'worse': 'orange', 'undecided': 'line'}.get(said, 'blue')
        axis.plot(ends, [-row, -row], color=colors[name], lw=3, solid_capstyle='butt')
        axis.plot(sum(ends) / 2, -row, 'o', color=colors[name])
        axis.text(0.034, -row, said, va='center', fontsize=9, color=colors['text'])
    axis.text(-margin, 0.75, f' margin ±{margin}', ha='left', fontsize=8.5, color=colors['text'])
    axis.set(xlim=(-0.03, 0.056), ylim=(-4.6, 1.1), yticks=[], xticks=[-0.02, -0.012, 0, 0.012, 0.02, 0.03])
    axis.spines['left'].set_visible(False)
    return figure


def gradients(colors: dict[str, str]) -> Figure:
    """Two tasks' gradients that conflict, and the step that each method takes for them."""
    tasks = torch.tensor([[1.0, 0.2], [-0.5, 0.8]])
    figure, axis = canvas(6.6, 3.0, (-1.5, 2.2), (-0.1, 1.62))

    def draw(vector: torch.Tensor, color: str, text: str, offset: tuple[float, float], **style: Any) -> None:
        axis.add_patch(
            FancyArrowPatch(
                (0, 0), vector.tolist(), arrowstyle='-|>', mutation_scale=12, color=color, shrinkA=0, shrinkB=0, **style
            )
        )
        x, y = (vector + torch.tensor(offset)).tolist()
        axis.text(x, y, text, ha='center', va='center', fontsize=9, color=color)

    draw(tasks[0], colors['text'], 'gradient of cls', (0.36, 0), lw=1.2, ls='--')
    draw(tasks[1], colors['text'], 'gradient of seg', (-0.38, 0), lw=1.2, ls='--')
    draw(tasks.sum(dim=0), colors['line'], 'equal weights', (-0.3, 0.05), lw=2)
    for method, name, color, offset in (
        (PCGrad, 'PCGrad and, for two tasks, UPGrad', 'blue', (0.75, 0)),
        (CAGrad, 'CAGrad', 'orange', (-0.2, 0.02)),
    ):
        weighting = method(['cls', 'seg'], ['cls', 'seg'])
        gramian = (tasks @ tasks.T).double()
        weights = weighting.weigh(gramian / gramian.trace()).float()
        draw(weights @ tasks, colors[color], name, offset, lw=2)
    return figure


def age(colors: dict[str, str]) -> Figure:
    """What a known age adds to the logits of the network that ships."""
    weights = read_weights(PACKAGE / 'zoo' / 'lite0_isic2017' / 'weights.safetensors')
    table, *_ = (value.float().numpy() for name, value in weights.items() if name.endswith('table_age'))
    inputs = load_config('configs/fpm/lite0_inputs_isic2017.py').model.inputs
    edges = [inputs.age.minimum, *inputs.age.edges, inputs.age.maximum]
    figure, axis = plot(6.6, 2.7, xlabel='age', ylabel='added to the logit')
    for values, name, color in zip(
        table.T, ('melanoma', 'nevus', 'seborrheic keratosis'), ('orange', 'blue', 'green'), strict=True
    ):
        axis.stairs(values, edges, baseline=None, color=colors[color], lw=2)
        axis.text(121, values[-1] - 0.3 * (name == 'melanoma'), name, va='center', fontsize=9, color=colors[color])
    axis.axhline(0, color=colors['line'], lw=0.8)
    axis.set(xlim=(0, 120), xticks=edges)
    return figure


def costs(colors: dict[str, str]) -> Figure:
    """What a training step costs by what varies, as speed/cost_curves.py measured it last."""
    (*_, table) = sorted(Path('speed/results').glob('*_cost_curves.csv'))
    with table.open() as file:
        rows = list(csv.DictReader(file))
    varied = list(dict.fromkeys(row['varied'] for row in rows))
    counts = [sum(row['varied'] == name for row in rows) for name in varied]
    figure = Figure(figsize=(9.6, 3.2), layout='constrained')
    axes = figure.subplots(2, len(varied), sharey='row', width_ratios=counts)
    for row, (key, label, color) in enumerate((('cpu_ms', 'CPU ms', 'blue'), ('mb', 'MB', 'green'))):
        for column, name in enumerate(varied):
            axis, points = axes[row, column], [point for point in rows if point['varied'] == name]
            heights = [float(point[key]) for point in points]
            bars = axis.bar([f'{int(point["value"]):,}' for point in points], heights, 0.6, color=colors[color])
            axis.bar_label(bars, [f'{height:.0f}' for height in heights], fontsize=7.5, color=colors['text'])
            axis.spines[['top', 'right', 'left']].set_visible(False)
            axis.set(ylabel=label if column == 0 else '', xlabel=name if row else '', yticks=[])
            axis.margins(y=0.15)
            axis.patch.set_visible(False)
    return figure


def measures(colors: dict[str, str]) -> Figure:
    """What is measured, on a lesion that mmskin paints."""
    painter = SyntheticLesions(seed=4, shape=(180, 240))
    image, mask, _ = max(
        (painter.sample('train', number) for number in range(40)), key=lambda one: irregularity(one[1])
    )
    found = measure_lesion(mask)
    assert found is not None
    outline = np.array(contours_of(mask)[0])
    hull = cv2.convexHull(outline.astype(np.int32))[:, 0]
    left, top, width, height = found.bounding_box
    figure, axis = canvas(7.6, 3.3, (0, 415), (180, 0))
    axis.imshow(image, interpolation='none')
    axis.set(xlim=(0, 415), ylim=(180, 0), aspect='auto')
    ends = max(((a, b) for a in hull for b in hull), key=lambda pair: np.hypot(*(pair[0] - pair[1])))
    x, y = found.centroid
    axis.add_patch(Rectangle((left, top), width, height, fc='none', ec='white', lw=1.2, ls='--'))
    axis.add_patch(Circle((x, y), found.equivalent_diameter / 2, fc='none', ec='#ffd33d', lw=1.5))
    axis.plot(*np.vstack([hull, hull[:1]]).T, color='#9be9a8', lw=1.5)
    axis.plot(*np.vstack([outline, outline[:1]]).T, color='#1446ff', lw=2)
    axis.plot(*np.array(ends).T, color='#ff7b72', lw=1.5)
    axis.plot(x, y, '+', color='white', ms=9, mew=2)
    for row, (mark, text) in enumerate(
        (
            ('#1446ff', f'outline: area {found.area}, perimeter {found.perimeter:.0f}'),
            ('#ff7b72', f'max_feret_diameter {found.max_feret_diameter:.0f}'),
            ('#ffd33d', f'equivalent_diameter {found.equivalent_diameter:.0f}'),
            ('#9be9a8', f'convex hull: irregularity {found.irregularity:.2f}'),
            (colors['line'], 'dashed: bounding_box; cross: centroid'),
        )
    ):
        axis.plot([249, 260], [18 + 16.5 * row] * 2, color=mark, lw=3)
        axis.text(264, 18 + 16.5 * row, text, va='center', fontsize=8, color=colors['text'])
    rest = (
        f'asymmetry {found.asymmetry:.2f}\neccentricity {found.eccentricity:.2f}\ncompactness {found.compactness:.2f}'
    )
    axis.text(264, 124, rest, va='center', fontsize=8, color=colors['text'], linespacing=1.8)
    return figure


def labels(colors: dict[str, str]) -> Figure:
    """Which parts of the network an image trains, by the labels that it has."""
    figure, axis = canvas(7.2, 2.5, (-0.3, 9.6), (-3.05, 0.6))
    for column, part in enumerate(('shared blocks', 'diagnosis', 'outline')):
        axis.text(4.1 + 2.1 * column, 0.3, part, ha='center', fontsize=9, color=colors['text'])
    for row, (has, trains) in enumerate(
        (('both', ('shared', 'cls', 'seg')), ('a diagnosis', ('shared', 'cls')), ('an outline', ('shared', 'seg')))
    ):
        axis.text(-0.2, -0.95 * row - 0.45, f'image with {has}', va='center', fontsize=9.5, color=colors['text'])
        for column, name in enumerate(('shared', 'cls', 'seg')):
            on = name in trains
            box(
                axis,
                4.1 + 2.1 * column,
                -0.95 * row - 0.45,
                1.8,
                'trained' if on else 'no loss',
                colors[name] if on else 'none',
                colors,
                linestyle='-' if on else ':',
            )
            axis.patches[-1].set_boxstyle('round', pad=-0.05, rounding_size=0.1)
    return figure


def temperature(colors: dict[str, str]) -> Figure:
    """The rate of the tutorial's gate by what its convolution gives."""
    figure, axis = plot(5.6, 2.5, xlabel='w x + b', ylabel='rate')
    x = np.linspace(-4, 4, 200)
    for value, color in ((0.25, 'orange'), (0.5, 'green'), (1, 'blue'), (4, 'purple')):
        axis.plot(x, 1 / (1 + np.exp(-x / value)), color=colors[color], lw=2, label=f'T = {value:g}')
    axis.legend(frameon=False, labelcolor=colors['text'], loc='center left', bbox_to_anchor=(1, 0.5))
    axis.set(xlim=(-4, 4), ylim=(-0.02, 1.02))
    return figure


def operators(colors: dict[str, str]) -> Figure:
    """What an operator sees and gives, and the four ways in which mmskin's differ."""
    figure, axis = canvas(9.0, 2.6, (0, 12), (-1.75, 1.75))
    line = colors['line']
    kinds = (
        ('gated message', ('$x_j$', 'G × m', '+')),
        ('mixing', ('$f_j$', 'a', 'mix')),
        ('modulation', ('$f_j$', 'pool', 'γ, β')),
        ('attention', ('$f_j$', 'K, V', 'Q')),
    )
    for number, (title, (source, middle, end)) in enumerate(kinds):
        x = 3 * number + 0.3
        axis.text(x + 1.2, 1.5, title, ha='center', fontsize=9.5, weight='bold', color=colors['text'])
        for y, name in ((0.8, 'cls'), (-0.95, 'seg')):
            axis.add_patch(Rectangle((x + 0.55, y - 0.25), 0.75, 0.5, fc=colors[name], ec=line))
            axis.text(x + 0.92, y, 'block', ha='center', va='center', fontsize=8, color=colors['text'])
            arrow(axis, (x, y), (x + 0.55, y), line)
            arrow(axis, (x + 1.3, y), (x + 2.5, y), line)
        start = x + 0.25 if source == '$x_j$' else x + 1.6
        axis.text(start - 0.02, 0.93, source, ha='center', fontsize=9, color=colors['text'])
        axis.plot([start, start], [0.8, -0.05], color=line, lw=1)
        arrow(axis, (start, -0.05), (x + 1.45, -0.05), line) if source == '$x_j$' else None
        place = x + 1.75 if source == '$x_j$' else start
        axis.text(place, -0.05, middle, ha='center', va='center', fontsize=8.5, color=colors['text'],
                  bbox=dict(boxstyle='round,pad=0.25', fc=colors['shared'], ec=line))  # fmt: skip
        arrow(axis, (place, -0.28), (place, -0.78), line)
        axis.text(place, -0.95, end, ha='center', va='center', fontsize=8.5, color=colors['text'],
                  bbox=dict(boxstyle='round,pad=0.2', fc=colors['shared'], ec=line))  # fmt: skip
        axis.text(x + 2.45, -1.35, '$f_i$', ha='center', fontsize=9, color=colors['text'])
    return figure


def export(colors: dict[str, str]) -> Figure:
    """From a training to a model folder and to files for programs without PyTorch, and who reads each."""
    figure, axis = canvas(9.6, 2.7, (0, 12.8), (-1.9, 1.7))
    line = colors['line']
    box(axis, 1.1, 0, 1.9, 'a training\nconfig, checkpoint', colors['shared'], colors)
    arrow(axis, (2.08, 0), (3.75, 0), line)
    axis.text(2.9, 0.16, 'publish', ha='center', fontsize=8, color=colors['text'])
    axis.add_patch(Rectangle((3.8, -0.95), 2.6, 1.9, fc=colors['cls'], ec=line))
    axis.text(5.1, 0.62, 'my_model', ha='center', va='center', fontsize=9.5, weight='bold', color=colors['text'])
    for row, file in enumerate(('config.py', 'weights.safetensors', 'README.md')):
        axis.text(5.1, 0.2 - 0.42 * row, file, ha='center', va='center', fontsize=8.5, color=colors['text'])
    arrow(axis, (5.1, -0.97), (5.1, -1.35), line)
    axis.text(5.1, -1.62, 'mmskin, Hugging Face Hub', ha='center', va='center', fontsize=8.5, color=colors['text'])
    axis.text(7.1, 0.16, 'export', ha='center', fontsize=8, color=colors['text'])
    for y, file, reader in (
        (0.8, 'my_model.onnx', 'ONNX Runtime\nphone, browser, server'),
        (-0.8, 'my_model.xml', 'OpenVINO\nCPUs'),
    ):
        arrow(axis, (6.42, 0), (7.65, y), line)
        box(axis, 8.65, y, 1.9, file, colors['seg'], colors)
        arrow(axis, (9.63, y), (10.35, y), line)
        axis.text(10.5, y, reader, va='center', fontsize=8.5, color=colors['text'], linespacing=1.4)
    return figure


def shares(colors: dict[str, str]) -> Figure:
    """How a suite's runs are dealt to the tasks of an array: what depends on another run stays with it."""
    figure, axis = canvas(7.6, 2.4, (-0.2, 10.4), (-2.6, 0.75))
    for column, seed in enumerate((0, 1, 2)):
        x = 3.4 * column
        axis.add_patch(
            FancyBboxPatch((x, -2.4), 3.0, 2.55, boxstyle='round,pad=0.05', fc='none', ec=colors['line'], ls='--')
        )
        axis.text(
            x + 1.5, 0.4, f'task {column}: seed {seed}', ha='center', fontsize=9.5, weight='bold', color=colors['text']
        )
        box(axis, x + 1.5, -0.4, 1.9, 'common start', colors['shared'], colors)
        for end, name, face in ((0.72, 'gated sum', 'cls'), (2.28, 'cross-stitch', 'seg')):
            arrow(axis, (x + 1.5, -0.84), (x + end, -1.38), colors['line'])
            box(axis, x + end, -1.8, 1.3, name, colors[face], colors)
    return figure


FIGURES: dict[str, Callable[[dict[str, str]], Figure]] = {
    'paper': paper,
    'stages': stages,
    'folds': folds,
    'verdicts': verdicts,
    'gradients': gradients,
    'age': age,
    'costs': costs,
    'measures': measures,
    'labels': labels,
    'temperature': temperature,
    'operators': operators,
    'shares': shares,
    'export': export,
    'network': lambda colors: network('configs/fpm/lite0_isic2017.py', colors),
    'three_tasks': lambda colors: network('configs/multitask/three_tasks_r18_synthetic.py', colors),
}


def write(figure: Figure, path: Path) -> None:
    """Write an SVG with a rule that exchanges each light colour for its dark one on a dark page."""
    text = io.StringIO()
    figure.savefig(text, format='svg', transparent=True, metadata={'Date': None})
    pairs = ((LIGHT[name], DARK[name], what) for name in LIGHT for what in ('fill', 'stroke'))
    rules = ''.join(f'[style*="{what}: {light}"]{{{what}:{dark} !important}}' for light, dark, what in pairs)
    style = f'<style>@media (prefers-color-scheme: dark){{{rules}}}</style><defs>'
    path.write_text(text.getvalue().replace('<defs>', style, 1))
    print(f'{path}  {path.stat().st_size / 1000:.0f} kB')


def main() -> None:
    """Draw what is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='*', help=', '.join(FIGURES))
    names = parser.parse_args().names or FIGURES
    rcParams.update({f'{key}.color': LIGHT['text'] for key in ('xtick', 'ytick', 'text')})
    rcParams.update({'axes.labelcolor': LIGHT['text'], 'axes.edgecolor': LIGHT['line'], 'svg.hashsalt': 'mmskin'})
    for name in names:
        write(FIGURES[name](LIGHT), IMAGES / f'{name}.svg')


if __name__ == '__main__':
    main()
