"""The base of mmskin's datasets: augmentation as a function of (seed, epoch, sample index)."""

import hashlib
import json
import random
import reprlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from mmskin.datasets.cache import LOADING, CachedLoading
from mmskin.datasets.rows import Rows, chosen, column_of
from mmskin.datasets.transforms.foreign import build_pipeline, same_draws
from mmskin.errors import MissingFile, Mistake
from mmskin.files import check_name, read_csv
from mmskin.structures import check_names

UNSEEDED = -1  # the epoch of a loop that has none
FOLD_COLUMNS = ('image_id', 'fold', 'group')


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed numpy, ``random`` and torch's CPU generator inside the block, and put their earlier states back after it."""
    words = np.random.SeedSequence(entropy).generate_state(4)
    with same_draws():
        torch.default_generator.manual_seed(int(words[0]))
        np.random.seed(words[1:3])
        random.seed(int(words[3]))
        yield


class TaskDataset(BaseDataset):
    """An mmengine dataset whose random transforms repeat for the same (seed, epoch, index), whatever the worker.

    A subclass writes ``load_data_list``, which gives a dict per image: ``image_id``, ``img_path``, and where known
    ``seg_map_path``, ``gt_label`` and any other field of ground truth (see ``LoadMask`` for further masks). Its
    ``METAINFO`` may name classes.

    Args:
        data_root: the folder that holds the data.
        pipeline: transforms, as configs of our registry (a foreign transform by its scope) or as callables.
        seed: changes the augmentation of every sample; not negative.
        indices: keep only the first ``indices`` samples, or those listed; for quick trials.
        test_mode: a pipeline that returns None is an error instead of a reason to draw another sample.
        lazy_init: read the annotations at the first use instead of now.
        metainfo: ``dict(classes=...)`` names the classes of ``gt_label``, in the order of their labels, and any other
            target's by its field, such as ``gt_sex=('female', 'male')``.
        folds: a table that deals the images into folds (``image_id,fold,group``), as a suite's cross-validation writes
            it. It has to list every image, but those that a training gets besides (``extra``).
        in_folds: keep the images of these folds alone; goes with ``folds``.
        cache: the folder that ``mmskin cache`` wrote; images and masks are taken from there, as they are once loaded.
        serialize_data: mmengine's: pickle what ``load_data_list`` gives, so that workers share it.

    Raises:
        Mistake: if the table of folds lacks an image, no image is left, or a class is named twice.
    """

    def __init__(
        self,
        data_root: str | Path,
        pipeline: Sequence[dict | Callable] = (),
        seed: int = 0,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        metainfo: dict | None = None,
        folds: str | Path | None = None,
        in_folds: Sequence[int] | None = None,
        cache: str | Path | None = None,
        serialize_data: bool = True,
    ) -> None:
        if (folds is None) != (in_folds is None):
            raise Mistake(f'folds={folds!r}, in_folds={in_folds!r}: give both, or none')
        self.folds, self.in_folds = folds, in_folds
        check_names({**self.METAINFO, **(metainfo or {})})
        if seed < 0:
            raise Mistake(f'seed={seed} of {type(self).__name__} is negative; give 0 or more')
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # shared: persistent workers read it too
        steps = build_pipeline(pipeline)
        self.loading = [*takewhile(lambda step: type(step) in LOADING, steps)]
        self.cache = CachedLoading(cache, self.loading) if cache and self.loading else None
        if self.cache:
            steps = [self.cache, *steps[len(self.loading) :]]
        super().__init__(
            data_root=str(data_root),
            pipeline=steps,
            indices=indices,
            test_mode=test_mode,
            lazy_init=lazy_init,
            metainfo=metainfo,
            serialize_data=serialize_data,
        )

    @property
    def epoch(self) -> int:
        """The epoch that augmentation is drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw augmentation for ``epoch`` from now on, in all workers; call it before the epoch's first batch.

        With ``UNSEEDED`` it is drawn from numpy's state as it is. A wrapper that repeats a sample within an epoch
        repeats its augmentation.
        """
        self._epoch.share_memory_().fill_(epoch)  # a deep copy, as of a subset, is not shared yet

    def filter_data(self) -> Sequence[dict]:
        """The samples of the folds, after a check of all, which mmengine's dataset asks for when it has loaded them."""
        samples: Any = self.data_list
        is_list = isinstance(samples, list | tuple) and all(isinstance(sample, dict) for sample in samples)
        if not (samples and (is_list or isinstance(samples, Rows))):
            raise Mistake(
                f'{type(self).__name__}: load_data_list gives {reprlib.repr(samples)} for {self.data_root}; give a '
                'list with a dict for each image'
            )
        ids = column_of(self.data_list, 'image_id')
        for image_id in ids:
            check_name(image_id, f'{self.data_root}: the image id')
        if len({*ids}) < len(ids):
            raise Mistake(f'{self.data_root}: two images have the id {Counter(ids).most_common(1)[0][0]}; rename one')
        if self.folds is None or self.in_folds is None:
            return self.data_list
        fold_of = {image_id: fold for image_id, (fold, _) in read_folds(self.folds).items()}
        extra = column_of(self.data_list, 'is_extra')
        own = {image_id for image_id, is_extra in zip(ids, extra, strict=True) if not is_extra}
        if missing := own - fold_of.keys():
            raise Mistake(f'{self.folds} lacks {listed(missing)} of {self.data_root}; add them, or make it again')
        folds = {*self.in_folds}
        kept = [index for index, image_id in enumerate(ids) if extra[index] or fold_of[image_id] in folds]
        if not kept:
            raise Mistake(f'{self.folds}: no image of {self.data_root} is in the folds {[*self.in_folds]}')
        return chosen(self.data_list, kept)

    def full_init(self) -> None:
        """Load the annotations, and make sure that the cache has all images."""
        if not self._fully_initialized:
            super().full_init()
            if self.cache:
                samples = self.data_list or [self.get_data_info(index) for index in range(len(self))]
                self.cache.check(column_of(samples, 'image_id'))

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """MMEngine's way, but for its search for garbage, which goes through all of torch and finds none of this."""
        with patch('mmengine.dataset.base_dataset.gc'):
            return super()._serialize_data()

    def _get_unserialized_subset(self, indices: int | Sequence[int]) -> Sequence[dict]:
        if isinstance(indices, int):
            indices = range(len(self.data_list))[:indices] if indices >= 0 else range(len(self.data_list))[indices:]
        return chosen(self.data_list, indices)

    def __getitem__(self, idx: int) -> Any:
        epoch = self.epoch
        try:
            if epoch == UNSEEDED:
                return super().__getitem__(idx)
            with seeded(self.seed, epoch, idx % len(self)):
                return super().__getitem__(idx)
        except StopIteration as error:  # by which a loader would take the epoch for done, without a word
            raise RuntimeError(
                f'{self.data_root}, sample {idx}: a step of the pipeline raised StopIteration'
            ) from error

    def get_cat_ids(self, idx: int) -> list[int]:
        """The classes in image ``idx``: one label or none. mmengine's ``ClassBalancedDataset`` asks for this."""
        info = self.get_data_info(idx)
        return [info['gt_label']] if 'gt_label' in info else []


def task_datasets(dataset: Dataset) -> Iterator[TaskDataset]:
    """Our datasets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""
    if isinstance(dataset, TaskDataset):
        yield dataset
    inner = [*getattr(dataset, 'datasets', []), *([dataset.dataset] if hasattr(dataset, 'dataset') else [])]
    for part in inner:
        yield from task_datasets(part)


def samples_of(dataset: Dataset) -> Iterator[dict]:
    """All samples of our datasets inside wrappers, one after the other, before any step of a pipeline."""
    for part in task_datasets(dataset):
        yield from map(part.get_data_info, range(len(part)))


def images_in(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """The image of each sample of our datasets inside wrappers: its file, or its name in a storage, and the storage."""
    for part in task_datasets(dataset):
        storage = str(getattr(part, 'backend_args', None) or '')
        samples = part.data_list or [part.get_data_info(index) for index in range(len(part))]
        yield from ((path, storage) for path in column_of(samples, 'img_path') if path)


def digest_of(dataset: Dataset) -> str:
    """A digest of image ids, ground truth and inputs in our datasets inside wrappers, by their order; not of files."""
    digest = hashlib.sha256()
    for part in task_datasets(dataset):
        samples = part.data_list or [part.get_data_info(index) for index in range(len(part))]
        names = samples.columns if isinstance(samples, Rows) else {name for sample in samples for name in sample}
        for name in sorted(names):
            if name == 'image_id' or name.startswith(('gt_', 'inputs')):
                digest.update(json.dumps([name, column_of(samples, name)], default=str).encode())
    return digest.hexdigest()


def read_folds(path: str | Path) -> dict[str, tuple[int, str]]:
    """Fold and group by image id, from a table of folds."""
    if not Path(path).is_file():
        raise MissingFile(f'{path}: no such table of folds; a suite with folds=... writes one')
    try:
        rows = read_csv(path)
        folds = {row['image_id']: (int(row['fold']), row['group']) for row in rows}
    except (KeyError, ValueError) as error:
        raise Mistake(f'{path}: not a table of folds, whose columns are {", ".join(FOLD_COLUMNS)} ({error})') from error
    if len(folds) < len(rows):
        twice = Counter(row['image_id'] for row in rows).most_common(1)[0][0]
        raise Mistake(f'{path}: lists {twice} twice; restore the table')
    return folds


def check_fields(fields: Collection[str]) -> None:
    """Make sure that fields of ground truth are named as such, by which transforms and ``PackTaskSample`` know them."""
    if odd := [field for field in fields if not field.startswith('gt_')]:
        raise Mistake(f'{odd[0]}: fields of ground truth begin with gt_; call it gt_{odd[0]}')


def left_in(ids: Sequence[str], exclude: Collection[str], where: str) -> list[int]:
    """The places of the ids that are not excluded."""
    if unknown := set(exclude).difference(ids):
        raise Mistake(f'exclude names {listed(unknown)} not in {where}')
    kept = [index for index, image_id in enumerate(ids) if image_id not in exclude]
    if not kept:
        raise Mistake(f'exclude leaves no image of {where}')
    return kept


def listed(ids: Collection[str], limit: int = 10) -> str:
    """``'3 ids (A, B, C)'``, cut after ``limit`` names."""
    names = sorted(ids)
    more = f', and {len(names) - limit} more' if len(names) > limit else ''
    plural = '' if len(names) == 1 else 's'
    return f'{len(names)} id{plural} ({", ".join(names[:limit])}{more})'
