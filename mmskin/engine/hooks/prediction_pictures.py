"""Pictures of what the network answers, at every validation."""

from itertools import chain, zip_longest
from typing import Any

import numpy as np
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskin.drawing import case_picture, read_case_image
from mmskin.evaluation.contour_sheet import describe
from mmskin.registry import HOOKS


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
        """Choose the images, once: the first of each class in turn, among those that the main process validates."""
        self.validations += 1
        if self.chosen is not None:
            return
        dataset = runner.val_dataloader.dataset
        by_class: dict[int, list[str]] = {}
        for index in range(0, len(dataset) if self.num_images else 0, get_world_size()):
            info = dataset.get_data_info(index)
            ids = by_class.setdefault(info.get('gt_label', -1), [])
            ids += [info['image_id']] if len(ids) < self.num_images else []
        rounds = zip_longest(*(by_class[label] for label in sorted(by_class)))
        self.chosen = [image_id for image_id in chain.from_iterable(rounds) if image_id is not None][: self.num_images]

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Draw and log those of the batch that were chosen."""
        if not is_main_process() or self.validations % self.interval:
            return
        metainfo = runner.val_dataloader.dataset.metainfo
        for sample in (sample for sample in outputs if sample.image_id in (self.chosen or ())):
            case = describe(sample.cpu().to_dict(), metainfo)
            if case.image_id not in self.images:
                self.images[case.image_id] = read_case_image(case.img_path)
            picture = case_picture(self.images[case.image_id], case)
            runner.visualizer.add_image(f'predictions/{sample.image_id}', picture, runner.iter)
