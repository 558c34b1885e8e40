"""A stream of samples from tar shards, for training by iterations."""

import json
import logging
import math
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from mmskin.datasets.storage import LARGEST, shard_members
from mmskin.datasets.tables import class_or_number
from mmskin.datasets.task_dataset import check_fields, seeded
from mmskin.datasets.transforms.foreign import build_pipeline
from mmskin.datasets.transforms.loading import LoadMask
from mmskin.errors import MissingFile, Mistake
from mmskin.files import check_name
from mmskin.readers.images import IMAGE_FILES
from mmskin.registry import DATASETS
from mmskin.structures import is_known, names_of

NUMBER = re.compile('[0-9]{1,9}')
LOOKED_AT = 1000  # samples of which one at least has to have what a setting names
NO_LENGTH = (
    'a stream has no length: train by iterations, train_cfg=dict(by_epoch=False, max_iters=...), without sampler, and '
    'validate and test on a data set'
)


@DATASETS.register_module()
class TarStream(IterableDataset):
    """Samples from tar shards as WebDataset packs them, read from start to end, over and over.

    The members of a sample follow each other, and have one name up to its first dot: ``7.jpg``, ``7.mask.png``,
    ``7.cls``, ``7.json``. Each pass reads the shards in another order, and mixes ``shuffle`` samples. Shards are dealt
    to processes and their workers, so there have to be as many. Order and augmentation are functions of the seed, the
    pass and the image, and a training that resumes goes on in the middle of a pass.

    Args:
        path: A tar file, a folder of them, or a pattern such as ``'shards/train-*.tar'``, relative to ``data_root``;
            they may be compressed.
        pipeline: See ``TaskDataset``.
        mask: How the name of a mask ends, in any capitals; its member may be missing, as may those of labels. A
            warning says what none of the first thousand samples has.
        label: How the name of the member ends that holds the diagnosis as text, a class's name or number; or a key of
            the member ``json``.
        columns: Further ground truth, by field: keys of the member ``json``, as ``CsvDataset`` has columns.
        shuffle: Samples, as they are stored, that wait in memory to be drawn from; 1 keeps the order of a shard.
        seed: Of order and augmentation.
        metainfo: ``dict(classes=...)`` names the classes in the order of their labels; other fields' likewise.
        data_root: See ``path``.

    Raises:
        MissingFile: if there is no such file.
        Mistake: if a setting makes no sense.
    """

    def __init__(
        self,
        path: str | Path,
        pipeline: Sequence[dict | Callable] = (),
        mask: str = 'mask.png',
        label: str = 'cls',
        columns: Mapping[str, str] | None = None,
        shuffle: int = 1000,
        seed: int = 0,
        metainfo: Mapping[str, Any] | None = None,
        data_root: str | Path = '',
    ) -> None:
        path = Path(data_root, path)
        shards = [*map(str, path.glob('*.tar*'))] if path.is_dir() else glob(str(path))
        self.path, self.shards = str(path), sorted(shards)
        if not self.shards:
            raise MissingFile(f'{path}: no tar file is there')
        if seed < 0 or shuffle < 1:
            raise Mistake(f'TarStream has seed={seed} and shuffle={shuffle}; give 0 and 1, or more')
        self.mask, self.label, self.columns, self.shuffle, self.seed = mask, label, columns or {}, shuffle, seed
        check_fields(self.columns)
        self.metainfo = dict(metainfo or {})
        self.steps = build_pipeline(pipeline)
        self.process = get_rank(), get_world_size()  # a worker that is spawned does not know them
        self.passed = 0, 1  # batches before the first one that is read, and their size
        self.looked_at = 0
        self.lacking = {'gt_label': self.label, **self.columns}  # what none of those had that were looked at
        if any(isinstance(step, LoadMask) for step in self.steps):
            self.lacking['seg_map_path'] = self.mask
        self.unread: set[str] = set()  # what they had that nothing reads

    def __len__(self) -> int:
        raise Mistake(f'{self.path}: {NO_LENGTH}')

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        batches, size = self.passed
        to_pass = max(0, batches - number + workers - 1) // workers * size
        rank, processes = self.process
        turn = 0
        while True:
            order = np.random.default_rng((self.seed, turn)).permutation(len(self.shards))
            own = [self.shards[index] for index in order[rank * workers + number :: processes * workers]]
            count = 0
            for sample in self._mixed(own, np.random.default_rng((self.seed, turn, rank * workers + number))):
                count += 1
                if to_pass:
                    to_pass -= 1
                    continue
                with seeded(self.seed, turn, zlib.crc32(sample['image_id'].encode('utf-8', 'surrogateescape'))):
                    result = self._loaded(sample)
                if result is not None:
                    yield result
            if not count:
                raise Mistake(f'{", ".join(own)}: no image there ({", ".join(IMAGE_FILES)})')
            self._look_back()
            turn += 1

    def _mixed(self, shards: Sequence[str], random: np.random.Generator) -> Iterator[dict]:
        """The samples of shards, each once."""
        waiting: list[dict] = []
        for shard in shards:
            for sample in samples_in(shard):
                if len(waiting) < self.shuffle:
                    waiting.append(sample)
                    continue
                index = int(random.integers(len(waiting)))
                drawn, waiting[index] = waiting[index], sample
                yield drawn
        random.shuffle(waiting)
        yield from waiting

    def _loaded(self, stored: dict) -> Any:
        """A sample after the pipeline; None if a step gives none."""
        where, parts = stored['where'], stored['parts']
        check_name(stored['image_id'], f'{where}: the image id')
        ends = {end.lower(): end for end in parts}
        mask, label, table = (ends.get(end) for end in (self.mask.lower(), self.label.lower(), 'json'))
        images = [end for key, end in ends.items() if f'.{key}' in IMAGE_FILES and end != mask]
        if not images:
            raise Mistake(f'{where}: has no image ({", ".join(IMAGE_FILES)}), only {", ".join([*parts][:10])}')
        if len(images) > 1:
            raise Mistake(f'{where}: has several images ({", ".join(images)}); keep one, or say which is mask=...')
        results = {'image_id': stored['image_id'], 'img_path': f'{where}.{images[0]}', 'inputs': {}}
        results['contents'] = {f'{where}.{end}': content for end, content in parts.items()}
        if mask:
            results['seg_map_path'] = f'{where}.{mask}'
        try:
            record = json.loads(parts[table]) if table else {}
            cells = {self.label: parts[label].decode().strip()} if label else {}
        except (RecursionError, ValueError) as error:
            raise Mistake(f'{where}: its json or {self.label} is damaged ({error}); write the shard again') from error
        if not isinstance(record, dict):
            raise Mistake(f'{where}.{table}: holds no object; write it as {{"{self.label}": ...}}')
        named = {'gt_label': self.label, **self.columns}
        for field, name in named.items():
            values = [self._value(field, f'{where}: {name}', str(source.get(name, ''))) for source in (cells, record)]
            known = [value for value in values if value is not None]
            if known[1:] and known[0] != known[1]:
                pair = f'{cells[name]!r}, and its json {record[name]!r}'
                raise Mistake(f'{where}: {name} says {pair}; correct one of them')
            if known:
                results[field] = known[0]
        if self.lacking:
            self.looked_at += 1
            self.lacking = {field: name for field, name in self.lacking.items() if field not in results}
            self.unread |= {end for end in parts if end not in (images[0], mask, label, table)}
            self.unread |= {f'json: {key}' for key in record if key not in named.values()}
            if self.looked_at == LOOKED_AT:
                self._look_back()
        for step in self.steps:
            if (results := step(results)) is None:
                return None
        return results

    def _value(self, field: str, what: str, cell: str) -> int | float | None:
        """What a cell says, as ``class_or_number`` has it; a class may be given by its number, too."""
        names = names_of(self.metainfo, field) or ()
        if not is_known(cell):
            return None
        if (
            field == 'gt_label'
            and cell not in names
            and NUMBER.fullmatch(cell)
            and int(cell) < (len(names) or math.inf)
        ):
            return int(cell)
        return class_or_number(field, what, cell, self.metainfo)

    def _look_back(self) -> None:
        """Say what no sample had so far, if anything is there that may have been meant."""
        lacking, self.lacking = self.lacking, {}
        names = [name for field, name in lacking.items() if self.unread or field in self.columns]
        if names:
            there = f'; not read are {", ".join(sorted(self.unread))}' if self.unread else ''
            text = f'{self.path}: none of the first {self.looked_at} samples has {", ".join(names)}{there}'
            print_log(f'{text} (mask, label and columns say what is)', logger='current', level=logging.WARNING)


def samples_in(shard: str) -> Iterator[dict]:
    """The samples of a shard: ``image_id``, ``where`` for errors, and ``parts``, their members' bytes by ending."""
    parts: dict[str, bytes] = {}
    before = '', ''
    ends: set[str] = set()
    size = 0
    for member, content in shard_members(shard, 'r:*', contents=True):
        folder, name = os.path.split(os.path.normpath(member.name))
        stem, _, end = name.partition('.')
        if not stem:  # hidden
            continue
        if before != (folder, stem):
            if parts:
                yield {'image_id': before[1], 'where': os.path.join(shard, *before), 'parts': parts}
            before, parts, ends, size = (folder, stem), {}, set(), 0
        size += len(content) + len(name)
        if size > LARGEST:
            raise Mistake(f'{shard}: {stem} has more than {LARGEST / 1e6:.0f} MB; remove what is not an image')
        if end.lower() in ends:
            raise Mistake(f'{shard}: {name} is there twice; give each sample a name of its own')
        ends.add(end.lower())
        parts[end] = content
    if parts:
        yield {'image_id': before[1], 'where': os.path.join(shard, *before), 'parts': parts}


class StreamLoader(DataLoader):
    """A loader of a data set without a length; it is as long as the training, which MMEngine takes for an epoch."""

    length: int | None = None  # in batches

    def __init__(self, dataset: IterableDataset, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.sampler.skip = self.skip  # type: ignore[attr-defined]  # whom a training that resumes asks
        if isinstance(dataset, TarStream):
            processes, shards = dataset.process[1], len(dataset.shards)
            if shards < (readers := processes * max(1, self.num_workers)):
                raise Mistake(
                    f'{dataset.path}: {shards} shards for {readers} readers ({processes} processes, '
                    f'num_workers={self.num_workers}); write more and smaller shards, or take fewer workers'
                )

    def skip(self, num_samples: int) -> None:
        """Begin after so many samples of this process, without a look at them."""
        self.dataset.passed = num_samples // self.batch_size, self.batch_size  # type: ignore[attr-defined, operator]

    def __len__(self) -> int:
        if self.length is None:
            raise Mistake(f'{getattr(self.dataset, "path", type(self.dataset).__name__)}: {NO_LENGTH}')
        return self.length
