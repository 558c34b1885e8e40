"""What a test found of each image: the metrics' rows, and the table ``per_image.csv``, read and written here alone."""

import hashlib
import logging
import math
import os
import pickle
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryFile
from typing import IO, Any, ClassVar

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import print_log
from numpy.typing import ArrayLike

from mmskin.errors import MissingFile, Mistake
from mmskin.files import number_in, own_columns, read_columns, read_note, write_csv, write_note
from mmskin.registry import EVALUATOR, checked
from mmskin.structures import names_key, names_of

PER_IMAGE, RESULTS, NOTE = 'per_image.csv', 'results.json', 'test.json'
MADE_OF_THEM = (NOTE, 'cases.json', 'cases.png', 'report.html', 'temperature.json')
SIZES = ('small', 'medium', 'large')
SCORE, PROBABILITY = 'score_', 'prob_'  # of one of several classes, and of a label for itself
Row = dict[str, Any]


def mean_of_defined(values: Iterable[float]) -> float:
    """The mean of the values that are not nan, or nan if there is none.

    The sum is rounded once, so the order in which processes hand in their images cannot change a digit.
    """
    defined = [value for value in values if not math.isnan(value)]
    return fmean(defined) if defined else math.nan


def numbers_in(**arrays: ArrayLike) -> list[np.ndarray]:
    """Arrays of numbers, which have to be of one shape, by the names of a function's arguments."""
    found = []
    for name, array in arrays.items():
        try:
            found.append(torch.as_tensor(array).cpu().numpy())
        except (TypeError, ValueError, RuntimeError) as error:
            raise Mistake(f'{name}={type(array).__name__}: give an array of numbers') from error
    if found[0].ndim == 0 or len({array.shape for array in found}) > 1:
        shapes = ' and '.join(f'{name} {array.shape}' for name, array in zip(arrays, found, strict=True))
        raise Mistake(f'{shapes}: give arrays of one shape')
    return found


class Spool(Sequence):
    """What a metric gathers image by image, in a file of the process's own that ends with it.

    Memory holds a block of rows and each block's place, however many images are tested. It may be read again and again,
    and a part of it as it is now stays when it is cleared.

    Args:
        rows: what is in it at first.
    """

    BLOCK = 512

    def __init__(self, rows: Iterable[Any] = ()) -> None:
        self.clear()
        self.extend(rows)

    def clear(self) -> None:
        """Begin again, in another file."""
        self.file: IO[bytes] | None = None  # shared with parts, and gone from the disk with the last of them
        self.blocks: list[tuple[int, int]] = []
        self.pending: list[Any] = []
        self.read: tuple[int, list[Any]] = (-1, [])

    def append(self, row: Any) -> None:
        """Take a row."""
        self.extend([row])

    def extend(self, rows: Iterable[Any]) -> None:
        """Take rows."""
        for row in rows:
            self.pending.append(row)
            if len(self.pending) == self.BLOCK:
                self.file = self.file or TemporaryFile()  # noqa: SIM115
                content = pickle.dumps(self.pending)
                self.blocks.append((self.file.seek(0, os.SEEK_END), len(content)))
                self.file.write(content)
                self.file.flush()
                self.pending = []

    def __iadd__(self, rows: Iterable[Any]) -> 'Spool':
        self.extend(rows)
        return self

    def __len__(self) -> int:
        return len(self.blocks) * self.BLOCK + len(self.pending)

    def __iter__(self) -> Iterator[Any]:
        for number in range(len(self.blocks)):
            yield from self._block(number)
        yield from self.pending

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            number, place = divmod(range(len(self))[index], self.BLOCK)
            if number == len(self.blocks):
                return self.pending[place]
            if self.read[0] != number:
                self.read = number, self._block(number)
            return self.read[1][place]
        places = range(*index.indices(len(self)))
        if len(places) < len(self) or places.step < 0:
            return Spool(self[place] for place in places)
        part = Spool()
        part.file, part.blocks, part.pending = self.file, [*self.blocks], [*self.pending]
        return part

    def _block(self, number: int) -> list[Any]:
        start, length = self.blocks[number]
        assert self.file is not None, 'blocks are in a file'
        return pickle.loads(os.pread(self.file.fileno(), length, start))

    def __reduce__(self) -> tuple:
        return Spool, ([*self],)


def number_of(metric: BaseMetric, name: str, value: Any) -> float:
    """What ``metric`` gives under a name, or a ``Mistake`` if it is no number."""
    try:
        return float('' if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise Mistake(f'{type(metric).__name__}: {name} is {value!r}; give a number') from error


class PerImageMetric(BaseMetric):
    """A metric that turns each sample into one row of numbers, and all rows into its results.

    Rows go to a file as they come: memory does not grow with a test's images. A row holds no mask and no image. There
    is one row for each sample, even for one that has nothing to measure, because mmengine cuts off a sampler's padding
    by position.

    Args:
        task: whose predictions are judged; its name is the prefix of the results and of the table's columns. By default
            that of the metric's ``default_prefix``.
        target: the sample's field with the ground truth; by default the one that the task learnt.
        collect_device: mmengine's, as is ``collect_dir``.
        collect_dir: see there.

    Attributes:
        per_image: after ``evaluate``, on the main process: the rows, each with an ``image_id``. Their keys become
            columns ``<task>/<key>`` of the table; ``score_<class>`` have to be in the order of the labels.
        default_target: where the ground truth of the default task is.
    """

    per_image: Sequence[Row] = ()
    default_target: ClassVar[str] = ''

    def __init__(
        self,
        task: str | None = None,
        target: str | None = None,
        collect_device: str = 'cpu',
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, task or self.default_prefix, collect_dir)
        self.task, self.target = str(self.prefix), target
        self.results: Any = Spool()

    def target_of(self, sample: dict) -> str:
        """The field of a sample that has the ground truth."""
        usual = self.default_target if self.task == self.default_prefix else f'gt_{self.task}'
        return self.target or sample.get('targets', {}).get(self.task, usual)

    def output_names(self, sample: dict, count: int) -> list[str]:
        """The data set's names of the ``count`` classes, labels or outlines of a sample's task, or their numbers."""
        target = self.target_of(sample)
        names = names_of(self.dataset_meta, target) or [str(index) for index in range(count)]
        if len(names) != count:
            raise Mistake(
                f'the task {self.task} has {count} classes, and the data set {len(names)}: {", ".join(names)}; set the '
                f"head's outputs, or metainfo=dict({names_key(target)}=...) of the data set"
            )
        return list(names)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Append one row for each of ``data_samples`` (``TaskSample.to_dict()``)."""
        for sample in data_samples:
            row = self.measure(sample)
            if not isinstance(row, Mapping):
                raise Mistake(f'{type(self).__name__}: measures {row!r}; give numbers by their names')
            for name, value in row.items():
                number_of(self, name, value)
            self.results.append({'image_id': sample['image_id'], **row})

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Keep the rows as ``per_image`` and summarize them."""
        self.per_image = results
        return self.summarize(results)

    @abstractmethod
    def measure(self, sample: dict) -> Row:
        """The numbers of one sample; empty if it lacks what the metric compares."""

    @abstractmethod
    def summarize(self, rows: list[Row]) -> dict[str, float]:
        """The results over all rows; empty if no row can be judged."""


@dataclass(eq=False)
class PerImageTable:
    """The numbers of N images.

    A column is named ``<task>/<number>``. A task is a classification if it has scores or labels, and a segmentation if
    it has JA. The attributes below ``columns`` are those of one task of each kind.

    Attributes:
        image_ids: N names.
        columns: arrays (N,); nan where an image lacks the number or it is undefined.
        diagnosis: the classification that ``classes``, ``labels``, ``predicted`` and ``scores`` are of; the table's
            first one by default.
        outline: the segmentation that ``overlap`` and ``mask_share`` are of; the table's first one by default.
    """

    image_ids: list[str]
    columns: dict[str, np.ndarray]
    diagnosis: str = ''
    outline: str = ''

    def __post_init__(self) -> None:
        for task, kind in self.tasks.items():
            if kind == 'classification':
                self.diagnosis = self.diagnosis or task
            elif kind == 'segmentation':
                self.outline = self.outline or task

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def tasks(self) -> dict[str, str]:
        """The kind of each task: 'classification', 'segmentation', 'labels' (any of several), or 'other'."""
        kinds: dict[str, str] = {}
        for column in self.columns:
            task, _, name = column.partition('/')
            if name.startswith(SCORE) or name in ('gt_label', 'pred_label'):
                kinds[task] = 'classification'
            elif name == 'JA':
                kinds[task] = 'segmentation'
            elif name.startswith(PROBABILITY):
                kinds[task] = 'labels'
            else:
                kinds.setdefault(task, 'other')
        return kinds

    def of(self, diagnosis: str) -> 'PerImageTable':
        """The table with another classification's classes and labels."""
        return replace(self, diagnosis=diagnosis)

    def aligned(self, image_ids: Sequence[str]) -> 'PerImageTable':
        """The table with its rows in the order of ``image_ids``.

        Raises:
            ValueError: if it lists other images.
        """
        places = {image_id: index for index, image_id in enumerate(self.image_ids)}
        if places.keys() != set(image_ids):
            odd = sorted(places.keys() ^ set(image_ids))
            raise Mistake(f'two tests list different images: {odd[0]} is in one only ({len(odd)} in all)')
        order = [places[image_id] for image_id in image_ids]
        columns = {name: values[order] for name, values in self.columns.items()}
        return replace(self, image_ids=list(image_ids), columns=columns)

    def column(self, task: str, name: str) -> np.ndarray:
        """A column (N,), all nan if the table lacks it."""
        return self.columns.get(f'{task}/{name}', np.full(len(self), np.nan))

    def num_judged(self, task: str) -> int:
        """How many images have a number of a task that is no prediction: their ground truth is there."""
        own, predicted = f'{task}/', tuple(f'{task}/{start}' for start in (SCORE, PROBABILITY, 'pred_'))
        columns = [v for name, v in self.columns.items() if name.startswith(own) and not name.startswith(predicted)]
        return int((~np.isnan(columns)).any(axis=0).sum()) if columns else 0

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """K names in the order of the labels, which is that of the columns; empty without scores."""
        start = f'{self.diagnosis}/{SCORE}'
        return tuple(name.removeprefix(start) for name in self.columns if name.startswith(start))

    @cached_property
    def labels(self) -> np.ndarray:
        """The true class (N,)."""
        return self.column(self.diagnosis, 'gt_label')

    @cached_property
    def predicted(self) -> np.ndarray:
        """The predicted class (N,)."""
        return self.column(self.diagnosis, 'pred_label')

    @cached_property
    def scores(self) -> np.ndarray:
        """The probability of each class (N, K)."""
        columns = [self.columns[f'{self.diagnosis}/{SCORE}{name}'] for name in self.classes]
        return np.array(columns).T.reshape(len(self), len(self.classes))

    def with_scores(self, scores: np.ndarray) -> 'PerImageTable':
        """The table with other probabilities (N, K) of the diagnosis, and the classes that follow from them."""
        names = [f'{self.diagnosis}/{SCORE}{name}' for name in self.classes]
        changed = {**dict(zip(names, scores.T, strict=True)), f'{self.diagnosis}/pred_label': scores.argmax(1) * 1.0}
        return replace(self, columns={**self.columns, **changed})

    @cached_property
    def judged(self) -> np.ndarray:
        """Which images (N,) have a true class and a prediction."""
        return ~np.isnan(self.labels) & ~np.isnan(self.predicted)

    @cached_property
    def right(self) -> np.ndarray:
        """1 where the predicted class (N,) is the true one, 0 where it is not, nan where one of them is missing."""
        return np.where(self.judged, self.labels == self.predicted, np.nan)

    def one_against_rest(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Of the judged images: whether each is of the class, and its probability."""
        index = self.classes.index(name)
        return self.labels[self.judged] == index, self.scores[self.judged, index]

    @cached_property
    def overlap(self) -> dict[str, np.ndarray]:
        """JA, DI, AC, sensitivity and specificity of the masks, (N,) each; empty without segmentation."""
        names = ('JA', 'DI', 'AC', 'sensitivity', 'specificity')
        return {
            name: self.columns[f'{self.outline}/{name}'] for name in names if f'{self.outline}/{name}' in self.columns
        }

    @cached_property
    def mask_share(self) -> np.ndarray:
        """The share of each image (N,) that is outlined in truth."""
        return self.column(self.outline, 'mask_share')

    @cached_property
    def outlined(self) -> np.ndarray:
        """Which images (N,) have a true and a predicted mask."""
        return ~np.isnan(self.mask_share)

    @cached_property
    def size_groups(self) -> dict[str, np.ndarray]:
        """Which images (N,) are in each third by ``mask_share``, of equal numbers; empty without three masks."""
        if self.outlined.sum() < len(SIZES):
            return {}
        order = np.argsort(np.where(self.outlined, self.mask_share, np.inf), kind='stable')[: self.outlined.sum()]
        thirds = np.array_split(order, len(SIZES))
        return {name: np.isin(np.arange(len(self)), third) for name, third in zip(SIZES, thirds, strict=True)}

    @classmethod
    def of_metrics(cls, metrics: Iterable[object]) -> 'PerImageTable':
        """The rows of all ``PerImageMetric``, joined by ``image_id`` and sorted by it; other metrics have none.

        Columns come task by task, by name; the scores of a task in the order of its labels.
        """
        judges = [metric for metric in metrics if isinstance(metric, PerImageMetric) and len(metric.per_image)]
        tasks = {task: number for number, task in enumerate(dict.fromkeys(str(metric.prefix) for metric in judges))}
        image_ids = sorted({row['image_id'] for metric in judges for row in metric.per_image})
        places = {image_id: index for index, image_id in enumerate(image_ids)}
        numbers: dict[str, np.ndarray] = {}
        for metric in judges:
            columns = {key: f'{metric.prefix}/{key}' for row in metric.per_image for key in row if key != 'image_id'}
            for column in columns.values():
                numbers.setdefault(column, np.full(len(image_ids), np.nan))
            for row in metric.per_image:
                for key, value in row.items():
                    if key != 'image_id':
                        numbers[columns[key]][places[row['image_id']]] = value

        def place(column: str) -> tuple[int, str]:
            task, _, name = column.partition('/')
            return tasks[task], SCORE if name.startswith(SCORE) else name

        return cls(image_ids, {name: numbers[name] for name in sorted(numbers, key=place)})

    @classmethod
    @checked
    def read(cls, path: str | Path) -> 'PerImageTable':
        """Read the table of a test.

        Args:
            path: the test's folder, or a table. Where ``results.json`` is next to it, as in a test's folder it has to
                be, the table is the one that was written with it.

        Raises:
            FileNotFoundError: if a file is missing.
            ValueError: if the table is damaged, was changed or lists no image.
        """
        path = Path(path)
        folder, path = (path, path / PER_IMAGE) if path.is_dir() else (None, path)
        if not path.is_file():
            raise MissingFile(f'{path}: no such file; mmskin test writes it into its work folder')
        note = path.with_name(RESULTS)
        if folder is not None and not note.is_file():
            raise MissingFile(f'{note}: no such file; without it {path.name} cannot be checked: test again')
        if path.name == PER_IMAGE and note.is_file():
            noted, content = read_note(note)['per_image'], path.read_bytes()
            if noted['sha256'] != hashlib.sha256(content).hexdigest():
                num_rows = max(len(content.splitlines()) - 1, 0)
                raise Mistake(
                    f'{path}: was changed after the test; it has {num_rows} rows, and {noted["rows"]} were written. '
                    'Restore it, or test again.'
                )
        image_ids: list[str] = []
        parts: dict[str, list[np.ndarray]] = {}
        try:
            for _, cells in read_columns(path, own_columns(path)):
                image_ids += cells.pop('image_id')
                for name, texts in cells.items():
                    numbers = np.array([number_in(text) if text else math.nan for text in texts])
                    parts.setdefault(name, []).append(numbers)
            # results that were kept before the column had its name stay readable, and their digests as they are
            named = {name.replace('/lesion_share', '/mask_share'): arrays for name, arrays in parts.items()}
            columns = {name: np.concatenate(arrays) for name, arrays in named.items()}
        except (KeyError, ValueError) as error:
            raise Mistake(f'{path} is not a per_image.csv ({error}); mmskin test writes one') from error
        if not image_ids:
            raise Mistake(f'{path} lists no image; was the test set empty?')
        if len(set(image_ids)) < len(image_ids):
            raise Mistake(f'{path} lists an image twice; test again')
        return cls(image_ids, columns)

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row for each image by column; None where there is no number. Labels are whole numbers."""
        for index, image_id in enumerate(self.image_ids):
            row: dict[str, Any] = {'image_id': image_id}
            for name, values in self.columns.items():
                number = int if name.endswith('_label') else float
                row[name] = None if math.isnan(values[index]) else number(values[index])
            yield row

    def write(self, path: str | Path) -> None:
        """Write the table alone, as one row for each image."""
        write_csv(path, chain([['image_id', *self.columns]], (row.values() for row in self.rows())))


def write_results(folder: str | Path, metrics: Mapping[str, float], table: PerImageTable) -> None:
    """Write ``per_image.csv``, and ``results.json`` with the metrics by name and what identifies the table.

    A metric that is undefined is null, since JSON has no nan. What an earlier test left in the folder is removed first:
    its cases and its checkpoint would pass for those of these numbers.
    """
    path = Path(folder, PER_IMAGE)
    for name in MADE_OF_THEM:
        path.with_name(name).unlink(missing_ok=True)
    table.write(path)
    noted = {'rows': len(table), 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
    numbers = {name: float(value) for name, value in sorted(metrics.items())}
    write_note(path.with_name(RESULTS), {**numbers, 'per_image': noted})


def write_companion(path: str | Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write what else a test says, as a note (``write_note``) that says whose results are next to it, if any are."""
    results = Path(path).with_name(RESULTS)
    whose = {'per_image': read_note(results).get('per_image')} if results.is_file() else {}
    write_note(path, {**content, **whose}, indent)


def read_companion(path: str | Path) -> dict[str, Any]:
    """What ``write_companion`` wrote."""
    content, results = read_note(path), Path(path).with_name(RESULTS)
    whose = content.pop('per_image', None)  # None: by an earlier version
    if whose and results.is_file() and read_note(results).get('per_image') != whose:
        raise Mistake(f'{path}: is of another test than {RESULTS} next to it; copy both again, or test again')
    return content


@EVALUATOR.register_module()
class NumbersEvaluator(Evaluator):
    """MMEngine's evaluator, whose metrics each give numbers under names of their own."""

    metrics: list[BaseMetric]

    def __init__(self, metrics: dict | Sequence) -> None:
        super().__init__(metrics)
        self.named: dict[str, BaseMetric] = {}  # by what they give
        for metric in self.metrics:
            compute = partial(self.numbers, metric, metric.compute_metrics)
            setattr(metric, 'compute_metrics', compute)  # noqa: B010

    def numbers(self, metric: BaseMetric, compute: Callable[[list], Any], results: list) -> dict[str, float]:
        """What ``metric`` computes."""
        scores = compute(results)
        if not isinstance(scores, Mapping):
            raise Mistake(f'{type(metric).__name__}: gives {scores!r}; give numbers by their names')
        names = {key: f'{metric.prefix}/{key}' if metric.prefix else key for key in scores}
        numbers = {}
        for key, name in names.items():
            if not isinstance(key, str):
                raise Mistake(f'{type(metric).__name__}: a metric is named {key!r}; give a text')
            numbers[key] = number_of(metric, name, scores[key])
            if self.named.setdefault(name, metric) is not metric:
                raise Mistake(f'{type(metric).__name__}: {name} is that of another metric; give it a prefix of its own')
        return numbers


@EVALUATOR.register_module()
class ResultsEvaluator(NumbersEvaluator):
    """Writes what a test measured before it tries anything that the numbers do not need.

    A metric with an attribute ``optional = True``, such as one that draws, comes last, and if it fails it leaves a
    warning. If another one fails, or gives no numbers under names of its own, what the rest measured is written before
    its error ends the test; only at the first batch, when there is nothing to lose, it does so at once.

    Args:
        metrics: their configs.
        out_dir: the test's folder.
    """

    def __init__(self, metrics: dict | Sequence, out_dir: str | Path) -> None:
        super().__init__(metrics)
        self.out_dir = out_dir
        self.errors: dict[BaseMetric, Exception] = {}
        self.has_begun = False
        for metric in self.metrics:  # the main process computes alone; were it to raise there, the others would wait
            setattr(metric, 'compute_metrics', self.kept(metric, metric.compute_metrics, {}))  # noqa: B010
            setattr(metric, 'process', self.kept(metric, metric.process, None))  # noqa: B010

    def kept(self, metric: BaseMetric, method: Any, instead: Any) -> Any:
        """``method`` of ``metric``, which notes its error and gives ``instead``, from then on without a call."""

        def call(*args: Any) -> Any:
            try:
                return instead if metric in self.errors else method(*args)
            except Exception as error:
                if not (self.has_begun or getattr(metric, 'optional', False)):
                    raise
                self.errors[metric] = error
                return instead

        return call

    def process(self, data_samples: Sequence[Any], data_batch: Any = None) -> None:
        """Let each metric see a batch."""
        super().process(data_samples, data_batch)
        self.has_begun = True

    def evaluate(self, size: int) -> dict[str, float]:
        """The metrics of ``size`` images by name; see the class for the order."""
        everything: list[BaseMetric] = self.metrics
        results: dict[str, float] = {}
        self.has_begun = True
        faults = [self.errors.get(metric) and repr(self.errors[metric]) for metric in everything]
        for metric, *texts in zip(everything, *all_gather_object(faults), strict=True):
            if text := next(filter(None, texts), None):  # of another process, whose part of the images is missing here
                self.errors.setdefault(metric, Mistake(f'{type(metric).__name__}: {text} in another process'))
        for optional in (False, True):
            self.metrics = [metric for metric in everything if getattr(metric, 'optional', False) == optional]
            results |= super().evaluate(size)
            if is_main_process() and not optional:
                table = PerImageTable.of_metrics(self.metrics)
                write_results(self.out_dir, results, table)
                whole = [m for m in self.metrics if isinstance(m, PerImageMetric) and m not in self.errors]
                for task in dict.fromkeys(metric.task for metric in whole):
                    if (judged := table.num_judged(task)) < len(table):
                        what = 'its metrics are of these' if judged else 'it has no metrics'
                        text = f'{task}: {judged} of {len(table)} images have ground truth; {what}'
                        print_log(text, logger='current', level=logging.WARNING)
        self.metrics = everything
        for metric, error in self.errors.items():
            if not getattr(metric, 'optional', False):
                raise error
            text = f'{type(metric).__name__} failed, and what it makes is missing ({type(error).__name__}: {error})'
            print_log(text, logger='current', level=logging.WARNING)
        return results
