"""Randomness as a function of seed and epoch."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmskin.datasets.tar_stream import TarStream
from mmskin.datasets.task_dataset import UNSEEDED, task_datasets
from mmskin.registry import HOOKS


@HOOKS.register_module()
class EpochSeed(Hook):
    """Seed each training epoch from (seed, epoch, rank), and tell the dataset which epoch it is.

    A checkpoint then needs no random state: a run that resumes draws what the uninterrupted one would have drawn,
    dropout and augmentation alike. A loop without epochs (``by_epoch=False``) draws freely, but for a
    ``TarStream``, which draws for each image.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Let every dataset of ours draw its augmentation from the run's seed."""
        if isinstance(runner.train_dataloader.dataset, TarStream):
            runner.train_dataloader.dataset.seed = runner.seed
        for dataset in task_datasets(runner.train_dataloader.dataset):
            dataset.seed = runner.seed
            if not isinstance(runner.train_loop, EpochBasedTrainLoop):
                dataset.set_epoch(UNSEEDED)

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell every dataset of ours the epoch, before the workers fetch its first batch."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            for dataset in task_datasets(runner.train_dataloader.dataset):
                dataset.set_epoch(runner.epoch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed ``random``, numpy and torch at an epoch's first step.

        Not before: a loader draws from torch's generator when it starts its workers, which persistent ones do once.
        """
        if batch_idx == 0 and isinstance(runner.train_loop, EpochBasedTrainLoop):
            seeds = np.random.SeedSequence((runner.seed, runner.epoch, get_rank())).generate_state(3)
            random.seed(int(seeds[0]))
            np.random.seed(seeds[1])
            torch.manual_seed(int(seeds[2]))
