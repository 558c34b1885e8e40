"""Draw the network of a config for README, on light and on dark: ``python docs/draw_network.py [CONFIG]``.

What the boxes say is read from the config: where the network is cut, where features are passed, tasks, heads.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

import mmskin
from mmskin.config import load_config

IMAGES = Path(__file__).parent / 'images'
CONFIG = 'configs/fpm/lite0_isic2017.py'
SAMPLE = Path(mmskin.__file__).parent / 'samples' / 'painted_2.jpg'
TITLES = {'cls': 'diagnosis', 'seg': 'outline'}
COLORS = {
    'light': {'text': '#1f2328', 'line': '#59636e', 'shared': '#dbe7f5', 'cls': '#fde5d3', 'seg': '#d7f0e0'},
    'dark': {'text': '#e6edf3', 'line': '#9198a1', 'shared': '#1f3a5a', 'cls': '#5a3418', 'seg': '#17472c'},
}


def box(axis: Axes, x: float, y: float, width: float, text: str, face: str, colors: dict[str, str]) -> None:
    """A rounded box about (x, y) with lines of text."""
    shape = FancyBboxPatch(
        (x - width / 2, y - 0.42), width, 0.84, boxstyle='round,pad=0.02,rounding_size=0.12', fc=face, ec=colors['line']
    )
    axis.add_patch(shape)
    axis.text(x, y, text, ha='center', va='center', fontsize=8.5, color=colors['text'], linespacing=1.4)


def arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """An arrow between two points."""
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle='-|>', mutation_scale=10, color=color, shrinkA=0, shrinkB=0))


def draw(model: Any, colors: dict[str, str]) -> Figure:
    """Image, shared blocks, a branch for each task with the gates between them, heads and answers."""
    figure = Figure(figsize=(9.6, 2.9))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, 12.8), ylim=(-2, 1.85))
    axis.set_axis_off()
    sample = np.asarray(Image.open(SAMPLE).convert('RGB'))
    axis.imshow(sample, extent=(0.15, 1.95, -0.68, 0.68), aspect='auto', zorder=2)
    site = next(iter(model.passing))
    chain = model.backbone.chain.type.removesuffix('Chain')
    arrow(axis, (1.95, 0), (2.3, 0), colors['line'])
    box(axis, 3.4, 0, 2.1, f'shared blocks\n{chain}\nto {model.backbone.split_after}', colors['shared'], colors)
    for (name, task), y in zip(model.tasks.items(), (1.1, -1.1), strict=True):
        face = colors[name]
        arrow(axis, (4.48, 0.2 * np.sign(y)), (4.95, y), colors['line'])
        box(axis, 5.9, y, 1.8, f'{TITLES[name]} branch\nto {site}', face, colors)
        arrow(axis, (6.84, y), (8.0, y), colors['line'])
        box(axis, 8.75, y, 1.4, 'the blocks\nafter it', face, colors)
        arrow(axis, (9.49, y), (9.8, y), colors['line'])
        head = task.head.type.rpartition('.')[2].removeprefix('DepthwiseSeparable')
        box(axis, 10.55, y, 1.4, f'head\n{head}', face, colors)
        arrow(axis, (11.29, y), (11.6, y), colors['line'])
        answer = {'cls': 'nevus', 'seg': 'mask'}[name]
        axis.text(11.7, y, answer, va='center', fontsize=9.5, weight='bold', color=colors['text'])
    arrow(axis, (7.2, 0.95), (7.2, -0.95), colors['line'])
    arrow(axis, (7.6, -0.95), (7.6, 0.95), colors['line'])
    for x in (7.2, 7.6):
        axis.plot(x, 0, 'o', ms=13, mfc=colors['shared'], mec=colors['line'], zorder=3)
        axis.text(x, -0.01, 'G', ha='center', va='center', fontsize=8, color=colors['text'], zorder=4)
    axis.text(7.95, 0, 'each message is weighed\nby a learned gate', va='center', fontsize=8, color=colors['text'])
    return figure


def main() -> None:
    """Write network_light.svg and network_dark.svg."""
    model = load_config(sys.argv[1] if len(sys.argv) > 1 else CONFIG).model
    for name, colors in COLORS.items():
        path = IMAGES / f'network_{name}.svg'
        draw(model, colors).savefig(path, transparent=True, metadata={'Date': None})
        print(f'{path}  {path.stat().st_size / 1000:.0f} kB')


if __name__ == '__main__':
    main()
