"""Looking at a config's data as the network sees it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backend_bases import FigureCanvasBase
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset

from mmskin.datasets.lesion_dataset import lesion_datasets
from mmskin.datasets.transforms.loading import LoadImage, LoadMask
from mmskin.drawing import THUMBNAIL
from mmskin.errors import Mistake
from mmskin.registry import DATASETS
from mmskin.visualization.view_sheet import Sample, View, view_sheet

__all__ = ['browse_dataset']


def browse_dataset(
    cfg: Config, split: str = 'train', count: int = 16, views: int = 3, out_file: str | Path = 'sheet.png'
) -> list[str]:
    """Draw some images of a split beside what its pipeline makes of them in the first epochs.

    Args:
        cfg: any config with loaders, such as ``load_config`` gives.
        split: whose loader: 'train', 'val' or 'test'.
        count: how many images, taken evenly from the whole split.
        views: how many epochs.
        out_file: the picture.

    Returns:
        the ids of the images.

    Raises:
        Mistake: if the config has no such loader, the split is empty, or its pipeline gives no packed sample.
    """
    loader, name = cfg.get(f'{split}_dataloader'), Path(cfg.filename or 'the config').name
    if not loader:
        raise Mistake(f'{name} has no {split}_dataloader; choose another split.')
    formats = FigureCanvasBase.filetypes
    if (suffix := Path(out_file).suffix[1:].lower()) not in formats:
        raise Mistake(f'{out_file}: .{suffix} is no format for a picture; there are {", ".join(sorted(formats))}')
    dataset = DATASETS.build(loader.dataset)
    seed_as_training(dataset, cfg)
    samples = read_samples(dataset, min(count, len(dataset)), views)
    title = f'{name}, {split}: originals, and beside each what the network sees of it'
    view_sheet(samples, out_file, title)
    return [sample.image_id for sample in samples]


def seed_as_training(dataset: BaseDataset | ConcatDataset, cfg: Config) -> None:
    """Let augmentation be drawn as the first epochs of a training will draw it."""
    for one in lesion_datasets(dataset):
        one.seed = cfg.get('randomness', {}).get('seed', one.seed)


def read_samples(dataset: BaseDataset | ConcatDataset, count: int, views: int) -> list[Sample]:
    """``count`` samples spread evenly over the dataset, epoch after epoch."""
    if count < 1:
        raise Mistake('there is nothing to show; give a count and a split of at least one image.')
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int).tolist()
    samples = [original_of(dataset, index) for index in indices]
    for epoch in range(views):
        for one in lesion_datasets(dataset):
            one.set_epoch(epoch)
        for sample, index in zip(samples, indices, strict=True):
            sample.views.append(packed_view(dataset[index]))
    return samples


def original_of(dataset: BaseDataset | ConcatDataset, index: int) -> Sample:
    """A sample as its files have it, upright, without views."""
    info = dict(dataset.get_data_info(index))
    label, classes = info.get('gt_label'), dataset.metainfo.get('classes')
    results = LoadMask().transform(LoadImage(THUMBNAIL).transform(info))
    name = '' if label is None else classes[label] if classes else str(label)
    return Sample(info['image_id'], name, View(results['img'], results.get('gt_seg_map')), [])


def packed_view(packed: Any) -> View:
    """What a pipeline gives, as a picture."""
    if not isinstance(packed, dict) or not {'inputs', 'data_samples'} <= packed.keys():
        raise Mistake("the pipeline gives no sample that a model takes; its last step has to be 'PackTaskSample'.")
    image = packed['inputs'].clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()  # (h, w, 3)
    mask = packed['data_samples'].get('gt_sem_seg')
    return View(image, None if mask is None else mask.data[0].numpy())
