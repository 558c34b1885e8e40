"""Pictures of what the network answers, at every validation."""

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskin.drawing import case_picture, read_case_image
from mmskin.evaluation.contour_sheet import describe
from mmskin.registry import HOOKS
from mmskin.structures import TaskSample

__all__ = ['PredictionPictures']


@HOOKS.register_module()
class PredictionPictures(Hook):
    """Logs a few validation images with outlines and diagnosis wherever the run is tracked: the same ones each time.

    They are named ``predictions/<image_id>``, and their step is the number of training steps so far. What is missing
    of masks, labels or predictions is left out.

    Args:
        num_images: how many, from each class in turn; 0 for none.
        interval: at every how many validations.
    """

    def __init__(self, num_images: int = 6, interval: int = 1) -> None:
        self.num_images = num_images
        self.interval = interval
        self.validations = 0
        self.chosen: list[str] | None = None
        self.images: dict[str, np.ndarray] = {}  # kept: to read and shrink a photograph takes longer than to draw on it

    def before_val_epoch(self, runner: Runner) -> None:
        """Choose the images, once."""
        self.validations += 1
        if self.chosen is None:
            self.chosen = choose_images(runner.val_dataloader.dataset, self.num_images)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draw and log those of the batch that were chosen."""
        if not is_main_process() or self.validations % self.interval:
            return
        metainfo = runner.val_dataloader.dataset.metainfo
        for sample in outputs:
            if sample.image_id in (self.chosen or ()):
                picture = self.draw(sample.cpu(), metainfo)
                runner.visualizer.add_image(f'predictions/{sample.image_id}', picture, runner.iter)

    def draw(self, sample: TaskSample, metainfo: Mapping[str, Any]) -> np.ndarray:
        """The picture of a sample (H, W, 3), RGB."""
        case = describe(sample.to_dict(), metainfo)
        if case.image_id not in self.images:
            self.images[case.image_id] = read_case_image(case.img_path)
        return case_picture(self.images[case.image_id], case)


def choose_images(dataset: BaseDataset, count: int) -> list[str]:
    """Ids of the first images of each class in turn, among those that the main process validates."""
    by_class: dict[int, list[str]] = {}
    for index in range(0, len(dataset) if count else 0, get_world_size()):
        info = dataset.get_data_info(index)
        ids = by_class.setdefault(info.get('gt_label', -1), [])
        ids += [info['image_id']] if len(ids) < count else []
    rounds = zip_longest(*(by_class[label] for label in sorted(by_class)))
    return [image_id for image_id in chain.from_iterable(rounds) if image_id is not None][:count]
