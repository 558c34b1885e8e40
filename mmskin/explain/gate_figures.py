"""Pictures of gates: rates by group, rates against size and JA, and where a gate opens."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mmskin.drawing import read_thumbnail, save_figure
from mmskin.explain.gate_table import GateTable, Group

__all__ = ['draw_maps', 'draw_rates', 'overlay']

COLORS = colormaps['viridis']


def draw_rates(table: GateTable, groups: Sequence[Group], path: str | Path) -> None:
    """A row per route: mean rates of the groups with intervals, and the rate against lesion size and JA."""
    routes = list(table.rates)
    others = table.largeness
    figure = Figure(figsize=(4.2 + 3.2 * len(others), 3.2 * len(routes)), layout='constrained', dpi=120)
    grid = figure.subplots(len(routes), 1 + len(others), squeeze=False, width_ratios=[1.5] + [1.0] * len(others))
    for axes, route in zip(grid, routes, strict=True):
        draw_groups(axes[0], [group for group in groups if group.route == route])
        axes[0].set_title(route, loc='left', fontsize=10, fontweight='bold')
        for axis, (name, values) in zip(axes[1:], others.items(), strict=True):
            draw_against(axis, name, values, table.rates[route])
    save_figure(figure, path)


def draw_groups(axis: Axes, groups: Sequence[Group]) -> None:
    """Means as points with their intervals, the group's name and size to the left."""
    for row, group in enumerate(groups):
        axis.plot(group.ends, [row, row], color='tab:blue', linewidth=2)
        axis.plot(group.mean, row, 'o', color='tab:blue', markersize=5)
    names = [f'{group.name.replace("_", " ")} ({group.num_images})' for group in groups]
    axis.set_yticks(range(len(groups)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel('mean rate, 95 % interval', fontsize=8)
    axis.tick_params(which='both', labelsize=8)
    axis.grid(axis='x', alpha=0.3)


def draw_against(axis: Axes, name: str, values: np.ndarray, rates: np.ndarray) -> None:
    """One point per image."""
    axis.plot(values, rates, '.', color='tab:blue', alpha=0.5, markersize=5)
    if name == 'lesion size':  # most are small
        axis.set_xscale('log')
    axis.set_xlabel(f'{name}, share of the image' if name == 'lesion size' else name, fontsize=8)
    axis.set_ylabel('rate', fontsize=8)
    axis.tick_params(which='both', labelsize=8)
    axis.grid(alpha=0.3)


def draw_maps(table: GateTable, path: str | Path, num_images: int = 6) -> None:
    """Where the gates open: images from the lowest to the highest mean rate, one row of overlays per route.

    A map is drawn over the image in grey, with colours that run from its route's lowest to its highest rate in the
    picture.

    Raises:
        MissingFile: if an image cannot be read.
    """
    chosen = choose(table, num_images)
    images = [read_thumbnail(table.img_paths[index]) for index in chosen]
    rows = len(table.maps) + 1
    figure = Figure(figsize=(2.1 * len(chosen) + 1.2, 2.2 * rows + 0.3), layout='constrained', dpi=120)
    grid = figure.subplots(rows, len(chosen), squeeze=False)
    for axis, image, index in zip(grid[0], images, chosen, strict=True):
        show(axis, image)
        axis.set_title(table.tested.image_ids[index], fontsize=8)
    for axes, (route, maps) in zip(grid[1:], table.maps.items(), strict=True):
        draw_route(figure, axes, route, maps[chosen].astype(np.float32), images)
    save_figure(figure, path)


def choose(table: GateTable, num_images: int) -> list[int]:
    """Images spread evenly from the lowest to the highest rate, over all routes."""
    order = np.argsort(np.mean(list(table.rates.values()), axis=0), kind='stable')
    places = np.linspace(0, len(order) - 1, min(num_images, len(order))).round().astype(int)
    return order[places].tolist()


def draw_route(
    figure: Figure, axes: Sequence[Axes], route: str, maps: np.ndarray, images: Sequence[np.ndarray]
) -> None:
    """One route's maps (n, h, w) over their images, with a colour bar."""
    scale = Normalize(float(maps.min()), float(maps.max()))
    for axis, image, rates in zip(axes, images, maps, strict=True):
        show(axis, overlay(grey(image), rates, scale))
        axis.set_xlabel(f'mean {rates.mean():.2f}', fontsize=8)
    axes[0].set_ylabel(route, fontsize=9)
    bar = figure.colorbar(ScalarMappable(scale, COLORS), ax=list(axes), shrink=0.8, pad=0.01)
    bar.set_label('rate, mean over channels', fontsize=8)
    bar.ax.tick_params(labelsize=8)


def grey(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) without its colours, which would mix with those of a map."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def show(axis: Axes, image: np.ndarray) -> None:
    """An image without ticks."""
    axis.imshow(image)
    axis.set(xticks=[], yticks=[])


def overlay(image: np.ndarray, rates: np.ndarray, scale: Normalize | None = None, strength: float = 0.5) -> np.ndarray:
    """A gate's map (h, w), enlarged and coloured, over an image (H, W, 3) of uint8.

    Args:
        image: RGB.
        rates: in [0, 1].
        scale: which rates the ends of the colour map stand for; 0 and 1 by default.
        strength: how much of the result is the map, from 0 to 1.
    """
    size = image.shape[1], image.shape[0]
    large = cv2.resize(rates.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    colors = COLORS((scale or Normalize(0, 1))(large))[..., :3] * 255
    return (image * (1 - strength) + colors * strength).round().astype(np.uint8)
