"""One method with one seed, in one fold: trained, tested, and recognised when it is done."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from mmengine.config import Config, ConfigDict

import mmskin
from mmskin.benchmark.fingerprint import build_dataset, check_comparable, fingerprints, settings_digest
from mmskin.benchmark.suite import Folds, Method, Suite
from mmskin.config import innermost_datasets, load_config, set_in_datasets
from mmskin.datasets.folds import assign_folds, check_folds, write_folds
from mmskin.engine.checkpoints import find_checkpoint
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.engine.stages import run_stages, stage_configs
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable, write_results
from mmskin.files import read_note, write_note
from mmskin.models.weights import hash_tensors, read_weights
from mmskin.registry import MODELS

NOTE = 'run.json'
VALIDATION = re.compile(r'(^|\.)val_(dataloader|evaluator|cfg)\b')


@dataclass(frozen=True)
class Run:
    """One training and test, which works in ``folder`` and leaves its result in ``record``.

    In ``folder``, ``plan.json`` appears before training: digests of settings, data and test protocol. ``train/`` is a
    work folder as tools/train.py leaves it, ``test/`` one of tools/test.py; ``error.txt`` is the traceback of a failed
    run. ``record`` gets ``per_image.csv``, ``results.json`` and, last, ``run.json``, which makes the run a finished
    one: with the plan, and all that a report needs. It is small, and it may be kept where the networks are not.

    ``root`` and ``results`` are the suite's folders of work and of results, which may be the same; ``fold`` is the one
    that is held out, None without cross-validation.
    """

    suite: Suite
    method: Method
    seed: int
    root: Path
    results: Path
    fold: int | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return f'{self.method.name}, seed {self.seed}' + ('' if self.fold is None else f', fold {self.fold}')

    @property
    def folder(self) -> Path:
        """Where it works."""
        return self.root / self._place

    @property
    def record(self) -> Path:
        """Where its result is."""
        return self.results / self._place

    @property
    def _place(self) -> Path:
        fold = [] if self.fold is None else [f'fold{self.fold}']
        return Path(self.method.folder, f'seed{self.seed}', *fold)

    @property
    def folds_file(self) -> Path:
        """The table that says which image is in which fold."""
        return self.results / 'folds.csv'

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return (self.record / NOTE).is_file()

    @property
    def failed(self) -> bool:
        """Whether its last execution ended with an error."""
        return (self.folder / 'error.txt').is_file()

    @property
    def trainer(self) -> 'Run':
        """The run whose networks are tested: mostly this one."""
        return self if self.method.weights_of is None else self._other(self.method.weights_of)

    @property
    def starter(self) -> 'Run | None':
        """The run from whose network this one's training starts."""
        return None if self.method.starts_from is None else self._other(self.method.starts_from)

    def _other(self, method: str) -> 'Run':
        return replace(self, method=self.suite.method(method))

    @property
    def needed(self) -> 'Run | None':
        """The run whose network this one cannot do without."""
        return self.starter if self.trainer is self else self.trainer

    @property
    def origin(self) -> 'Run':
        """The run that the chain of needed ones begins with: mostly this one."""
        return self if self.needed is None else self.needed.origin

    @property
    def has_network(self) -> bool:
        """Whether the network that it trained is there; a result may be kept without."""
        try:
            return find_checkpoint(self.folder / 'train').is_file()
        except FileNotFoundError:
            return False

    @property
    def is_open(self) -> bool:
        """Whether there is something to do: to finish it, or to train again a network that an open one needs."""
        if not self.finished:
            return True
        if self.trainer is not self or self.has_network:
            return False
        name = self.method.name
        return any(
            self._other(method.name).is_open
            for method in self.suite.methods
            if name in (method.weights_of, method.starts_from)
        )

    @property
    def ready(self) -> bool:
        """Whether it can start; one that needs another's network waits for it."""
        return self.needed is None or (self.needed.finished and self.needed.has_network)

    def config(self, part: str) -> Config:
        """The config of 'train' or 'test', with a work folder of its own; in cross-validation, on the fold's images.

        There is no validation then: the images that are left train, and those of the fold must not choose anything.

        Raises:
            Mistake: if the method chooses by validation nevertheless, or a stage has data of its own.
        """
        options = {**self.suite.options, **self.method.options}
        folder, root = str(self.folder / part), self.suite.data_root
        if self.suite.folds is None:
            return load_config(self.method.config, folder, root, self.seed, options=options)
        options = {key: value for key, value in options.items() if not VALIDATION.search(key)}
        cfg = load_config(self.method.config, folder, root, self.seed, options=options)
        for settings in [cfg, *(cfg.get('stages') or ())]:
            for name in [name for name in settings if VALIDATION.search(name)]:
                settings[name] = None
        others = [fold for fold in range(self.suite.folds.count) if fold != self.fold]
        for name, folds in (('train_dataloader', others), ('test_dataloader', [self.fold])):
            if cfg.get(name):
                _pool(cfg[name], self.suite.folds)
                set_in_datasets(cfg[name], 'folds', str(self.folds_file))
                set_in_datasets(cfg[name], 'in_folds', folds)
        for stage in stage_configs(cfg):
            hooks = [*stage.get('default_hooks', {}).values(), *stage.get('custom_hooks', ())]
            if stage.get('ends_with') or any(h and (h.get('save_best') or 'EarlyStop' in str(h.type)) for h in hooks):
                raise Mistake(
                    f'{self.method.config}: chooses by validation (save_best, ends_with or early stopping), which a '
                    "suite with folds does not have; turn it off in the method's options"
                )
            if stage.get('train_dataloader') and any(
                [*dataset.get('in_folds', ())] != others for dataset in innermost_datasets(stage.train_dataloader)
            ):
                raise Mistake(
                    f'{self.method.config}: the stage {stage.stage!r} has a data set of its own, which may hold images '
                    'of the fold; a suite with folds needs one for all stages'
                )
        return cfg

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What the results will depend on, from the config and the data as they are now."""
        return {**self.asked, 'fingerprints': fingerprints(self.config('test'))}

    @property
    def asked(self) -> dict[str, Any]:
        """What the suite asks of the run: digests of settings, and what the folds are dealt by."""
        folds = self.suite.folds
        dealt = folds and [*folds.groups, folds.seed]
        tested = None if self.trainer is self else self.trainer.settings  # of the run whose networks are tested
        return {'settings': self.settings, 'trainer': tested, 'dealt': dealt}

    @cached_property
    def settings(self) -> str:
        """A digest of the config, and of those of the networks that it starts from."""
        start = [] if self.starter is None else [self.starter.settings]
        return '+'.join([settings_digest(self.config('test')), *start])

    def noted(self) -> dict[str, Any]:
        """What a finished run left in ``run.json``."""
        with or_again(self.record):
            return read_note(self.record / NOTE)

    def noted_plan(self) -> dict[str, Any]:
        """The plan that was noted with the result, or when the run began; empty if it has not."""
        path = self.folder / 'plan.json'
        return self.noted().get('plan', {}) if self.finished else read_note(path) if path.is_file() else {}

    def check_settings(self) -> None:
        """Raise if the run began with other settings than it would now; needs no data."""
        noted = self.noted_plan()
        if any(noted.get(key, now) != now for key, now in self.asked.items()):
            raise Mistake(
                f'{self.record if self.finished else self.folder} was begun with other settings than '
                f'{self.method.config} and the suite have now; remove it, restore them, or choose another --work-dir'
            )

    def check_plan(self) -> None:
        """Raise if the run began with other settings, data or protocol than it would now."""
        self.check_settings()
        noted = self.noted_plan().get('fingerprints')
        if noted is not None and noted != (now := self.plan['fingerprints']):
            changed = sorted(name for name in {*noted} | {*now} if noted.get(name) != now.get(name))
            changed = [f'{name} ({self.folds_file})' if name == 'folds' else name for name in changed]
            raise Mistake(
                f'{self.record if self.finished else self.folder} was begun on other data or with another test '
                f'protocol: {", ".join(changed)} changed since; remove it, restore them, or choose another --work-dir'
            )

    def check_networks(self) -> None:
        """Raise if the network that a finished run needed is another one than its trainer noted.

        A network that was trained again, since it was gone and others start from it, is noted there, too.
        """
        if self.needed is None or not (self.finished and self.needed.finished):
            return
        began, now = self.noted().get('networks', {}), self.needed.noted().get('networks', {})
        if began and now and began['needed'] not in (now['tested'], *now.get('trained_again', ())):
            raise Mistake(
                f'{self.record} was made with another network than {self.needed.record} has now; remove the first, and '
                'it is made again'
            )

    def execute(self) -> None:
        """Train what is missing, and test unless the result is there."""
        write_note(self.folder / 'plan.json', self.plan)
        if self.trainer is self:
            cfg = self.config('train')
            if self.starter is not None:
                cfg.load_from = str(find_checkpoint(self.starter.folder / 'train'))
            run_stages(cfg, resume=True)
        if self.finished:
            note = self.noted()
            again = [*note['networks'].get('trained_again', ()), network_hash(self)]
            note['networks']['trained_again'] = sorted({*again} - {note['networks']['tested']})
            write_note(self.record / NOTE, note)
            return
        cfg = self.config('test')
        cost = self.folder / 'test' / 'cost.json'
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), {'type': 'InferenceCost', 'out_file': str(cost)}]
        results = evaluate_checkpoint(cfg, find_checkpoint(self.trainer.folder / 'train'))
        table = PerImageTable.read(self.folder / 'test')
        short = {
            name: np.array([float(str(v)) for v in values.astype(np.float32)]) for name, values in table.columns.items()
        }
        write_results(self.record, results, replace(table, columns=short))
        summary = {
            'results': results,
            'cost': read_note(cost),
            'finished': date.today().isoformat(),
            'made_with': {'mmskin': mmskin.__version__, 'torch': torch.__version__},
            'networks': {'tested': network_hash(self.trainer), 'needed': self.needed and network_hash(self.needed)},
            'classes': list(build_dataset(cfg.test_dataloader.dataset).metainfo.get('classes', ())),
            'plan': self.plan,
        }
        write_note(self.record / NOTE, summary)


def network_hash(run: Run) -> str:
    """The hash of the tensors that a run's training ended with."""
    return hash_tensors(read_weights(find_checkpoint(run.folder / 'train')))


@contextmanager
def or_again(record: Path) -> Iterator[None]:
    """Inside the block, what is said of a run's damaged result says how to do the run again."""
    try:
        yield
    except Mistake as error:
        if not (record / NOTE).is_file():
            raise
        raise type(error)(f'{error}; or delete {record / NOTE}, and the suite does this run again') from error


def runs_of(suite: Suite, root: str | Path, results: str | Path | None = None) -> list[Run]:
    """All runs of a suite, seed by seed and fold by fold, so that every method is seen early.

    Those that need another's network come after it. Results go below ``root`` unless ``results`` says where.
    """

    def steps(method: Method) -> int:
        """How many methods come before this one."""
        return 0 if method.starts_from is None else 1 + steps(suite.method(method.starts_from))

    methods = sorted(suite.methods, key=lambda method: (method.weights_of is not None, steps(method)))
    return [
        Run(suite, method, seed, Path(root), Path(results or root), fold)
        for seed in suite.seeds
        for fold in suite.fold_numbers
        for method in methods
    ]


def check_suite(runs: Sequence[Run]) -> None:
    """Deal the folds if nobody has, and raise if a run cannot continue or be compared."""
    suite = runs[0].suite
    if suite.folds:
        deal_folds(runs)
    for run in runs:
        run.check_plan()
        run.check_networks()
    for fold in suite.fold_numbers:
        plans = {run.name: run.plan['fingerprints'] for run in runs if run.fold == fold}
        check_comparable(plans, suite.may_differ)


def deal_folds(runs: Sequence[Run]) -> None:
    """Write the table of folds, or check the one that is there, for the images of the first method with labels."""
    folds = runs[0].suite.folds
    assert folds is not None, 'the suite cross-validates'
    runs[0].root.mkdir(parents=True, exist_ok=True)
    with FileLock(runs[0].root / 'folds.lock'):
        for run in runs:
            plain = replace(run, suite=replace(run.suite, folds=None)).config('test')
            _pool(plain.test_dataloader, folds)
            settings = next(innermost_datasets(plain.test_dataloader))
            settings.pop('indices', None)
            dataset = build_dataset(settings)
            samples = [dataset.get_data_info(index) for index in range(len(dataset))]
            tasks = plain.model.get('tasks', {}).values()
            kinds: list[tuple[Any, Any]] = [(task, MODELS.get(task['type'])) for task in tasks]
            named = [
                task.get('target') or kind.target for task, kind in kinds if getattr(kind, 'kind', '') == 'classes'
            ]
            fields = {field for sample in samples for field in sample}
            target = next((name for name in ('gt_label', *named) if name in fields), None)
            if target or run.method is runs[0].suite.methods[-1]:
                break
        folder, file = Path(settings.get('data_root') or ''), runs[0].folds_file
        if file.is_file():
            check_folds(file, samples, folds.count, folds.groups, folder)
        else:
            print(f'benchmark: dealing {len(samples)} images into {folds.count} folds: {file}', flush=True)
            dealt = assign_folds(samples, folds.count, folds.groups, folds.seed, folder, target or 'gt_label')
            write_folds(file, dealt)


def _pool(loader: ConfigDict, folds: Folds) -> None:
    """Let a loader see the images of all splits that are pooled."""
    for dataset in innermost_datasets(loader):
        if 'split' in dataset or folds.splits:
            dataset['split'] = [*(folds.splits or ('train', 'val'))]
