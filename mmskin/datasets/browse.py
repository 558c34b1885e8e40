"""Looking at a config's data as the network sees it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.structures import PixelData

from mmskin.datasets.task_dataset import task_datasets
from mmskin.datasets.transforms.loading import FIELDS, LoadImage, LoadMask, check_packed
from mmskin.drawing import FURTHER, THUMBNAIL, TRUE, figure_format, outlines, plot_outlines, save_figure
from mmskin.errors import Mistake
from mmskin.files import refuse_replacing
from mmskin.registry import DATASETS
from mmskin.structures import names_of

SIDE = 1.5  # inches of one view
COLUMNS = 2  # samples in a row of the sheet


@dataclass(eq=False)
class View:
    """One picture of a sample.

    Attributes:
        image: uint8 RGB (H, W, 3).
        masks: (H, W) of any size each, by their names; a name is there without a mask where it shows nothing.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]


@dataclass(eq=False)
class Sample:
    """A sample's original and its views; ``label`` is all that is known of it but the masks."""

    image_id: str
    label: str
    original: View
    views: list[View] = field(default_factory=list)


def browse_dataset(
    cfg: Config, split: str = 'train', count: int = 16, views: int = 3, out_file: str | Path = 'sheet.png'
) -> list[str]:
    """Draw some images of a split next to what its pipeline makes of them in the first epochs.

    Args:
        cfg: any config with loaders, such as ``load_config`` gives.
        split: whose loader: 'train', 'val' or 'test'.
        count: how many images, taken evenly from the whole split.
        views: how many epochs.
        out_file: the picture.

    Returns:
        the ids of the images.

    Raises:
        Mistake: if ``out_file`` has no suffix of a picture, or is one of the data folder; see also ``read_samples``.
    """
    figure_format(out_file)
    loader = cfg.get(f'{split}_dataloader') or {}
    root = loader.get('dataset', {}).get('data_root')
    if root:
        refuse_replacing(out_file, root)
    samples = read_samples(cfg, split, count, views)
    name = Path(cfg.filename or 'the config').name
    draw_sheet(samples, out_file, f'{name}, {split}: originals, and next to each what the network sees of it')
    return [sample.image_id for sample in samples]


def read_samples(cfg: Config, split: str, count: int, views: int) -> list[Sample]:
    """Samples as their files have them, and as augmentation will show them in the first epochs of a training.

    Arguments are those of ``browse_dataset``.

    Raises:
        Mistake: if the config has no such loader, there is nothing to show, or the pipeline gives no packed sample.
    """
    loader = cfg.get(f'{split}_dataloader')
    if not loader:
        name = Path(cfg.filename or 'the config').name
        raise Mistake(f'{name} has no {split}_dataloader; choose another split')
    dataset = DATASETS.build(loader.dataset)
    for part in task_datasets(dataset):
        part.seed = cfg.get('randomness', {}).get('seed', part.seed)
    count = min(count, len(dataset))
    if min(count, views) < 1:
        raise Mistake('there is nothing to show; give a count, views and a split of at least one image')
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    samples = []
    for info in (dict(dataset.get_data_info(index)) for index in indices):
        labels = [in_words(field, info[field], dataset.metainfo) for field in info if field.startswith('gt_')]
        results = LoadMask().transform(LoadImage(THUMBNAIL).transform(info))  # upright, as its files have it
        fields = {
            FIELDS.get(field, field): value[None] if value.ndim == 2 else value.transpose(2, 0, 1)
            for field, value in results.items()
            if field.startswith('gt_') and isinstance(value, np.ndarray) and value.ndim > 1
        }
        original = View(results['img'], named_masks(fields, dataset.metainfo))
        samples.append(Sample(info['image_id'], '\n'.join(labels), original))
    for epoch in range(views):
        for part in task_datasets(dataset):
            part.set_epoch(epoch)
        for sample, index in zip(samples, indices, strict=True):
            packed = check_packed(dataset[index])
            image = packed['inputs'].clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()  # (h, w, 3)
            fields = {
                field: value.data.numpy()
                for field, value in packed['data_samples'].items()
                if isinstance(value, PixelData)
            }
            sample.views.append(View(image, named_masks(fields, dataset.metainfo)))
    return samples


def in_words(field: str, value: Any, metainfo: Mapping[str, Any]) -> str:
    """What a sample's field says, in words: the class alone for ``gt_label``, else with the field's name."""
    names = names_of(metainfo, field)
    if isinstance(value, np.ndarray):
        labels = names or [str(index) for index in range(len(value))]
        text = ', '.join(f'{name} {number:g}' for name, number in zip(labels, value, strict=False) if number == number)
    else:
        text = names[value] if names and isinstance(value, int) and value < len(names) else f'{value:g}'
    return text if field == 'gt_label' else f'{field.removeprefix("gt_")}: {text}'


def named_masks(fields: Mapping[str, np.ndarray], metainfo: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Masks (H, W) by name, of fields (C, H, W): those of a map of classes by class, and of several masks by theirs."""
    masks: dict[str, np.ndarray] = {}
    for target, levels in fields.items():
        names = names_of(metainfo, target)
        if len(levels) == 1 and len(names) > 1:
            masks |= {name: levels[0] == number for number, name in enumerate(names, 1)}
        else:
            labels = names or [target if len(levels) == 1 else f'{target} {index}' for index in range(len(levels))]
            masks |= dict(zip(labels, levels, strict=False))
    return masks


def draw_sheet(samples: Sequence[Sample], out_file: str | Path, title: str) -> None:
    """Draw each original and right of it its views, all with the masks' outlines, each mask in a colour of its own."""
    columns, width = min(COLUMNS, len(samples)), 1 + len(samples[0].views)
    rows = math.ceil(len(samples) / columns)
    size = SIDE * width * columns, (SIDE + 0.25) * rows + 0.5
    figure = Figure(figsize=size, layout='constrained', dpi=100)
    grid = figure.subplots(rows, width * columns, squeeze=False)
    for axis in grid.flat:
        axis.axis('off')
    names = dict.fromkeys(
        name for sample in samples for view in [sample.original, *sample.views] for name in view.masks
    )
    colors = dict(zip(names, cycle((TRUE, *FURTHER))))  # noqa: B905
    for sample, axes in zip(samples, grid.reshape(-1, width).tolist(), strict=False):
        for axis, view in zip(axes, [sample.original, *sample.views], strict=True):
            height, width = view.image.shape[:2]
            axis.imshow(view.image, extent=(0, 1, 1, 0), aspect=height / width)
            for name, mask in view.masks.items():
                plot_outlines(axis, outlines(mask), color=colors[name])
            axis.set(xlim=(0, 1), ylim=(1, 0))
        for number, axis in enumerate(axes[1:]):
            axis.set_title(f'epoch {number}', fontsize=7, color='grey')
        caption = f'{sample.image_id}\n{sample.label.replace("_", " ") or "no label"}'
        if not sample.original.masks:
            caption += ', no mask'
        axes[0].set_title(caption, fontsize=7, loc='left')
    figure.suptitle(title, fontsize=9)
    save_figure(figure, out_file)
