"""One method with one seed: trained, tested, and recognised when it is done."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

import mmskin
from mmskin.benchmark.fingerprint import build_dataset, check_comparable, fingerprints, same, settings_digest
from mmskin.benchmark.suite import Method, Suite
from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint, find_checkpoint
from mmskin.engine.stages import run_stages
from mmskin.errors import Mistake
from mmskin.files import read_json, write_text
from mmskin.models.weights import hash_tensors, read_weights

__all__ = ['Run', 'check_suite', 'runs_of']


@dataclass(frozen=True)
class Run:
    """A folder ``<root>/<method>/seed<seed>``.

    ``plan.json`` appears before training: digests of settings, data and test protocol. ``train/`` is a work folder as
    tools/train.py leaves it, ``test/`` one of tools/test.py. ``run.json`` appears last, and makes the run a finished
    one; ``error.txt`` is the traceback of a failed one.
    """

    suite: Suite
    method: Method
    seed: int
    root: Path

    @property
    def name(self) -> str:
        """For messages."""
        return f'{self.method.name}, seed {self.seed}'

    @property
    def folder(self) -> Path:
        """Where everything of this run is."""
        return self.root / self.method.folder / f'seed{self.seed}'

    @property
    def finished(self) -> bool:
        """Whether it has been tested."""
        return (self.folder / 'run.json').is_file()

    @property
    def failed(self) -> bool:
        """Whether its last execution ended with an error."""
        return (self.folder / 'error.txt').is_file()

    @property
    def trainer(self) -> 'Run':
        """The run whose networks are tested: mostly this one."""
        return self if self.method.weights_of is None else self.other(self.method.weights_of)

    @property
    def starter(self) -> 'Run | None':
        """The run from whose network this one's training starts."""
        return None if self.method.starts_from is None else self.other(self.method.starts_from)

    def other(self, method: str) -> 'Run':
        """The run of another method with the same seed."""
        return Run(self.suite, self.suite.method(method), self.seed, self.root)

    @property
    def needed(self) -> 'Run | None':
        """The run whose network this one cannot do without."""
        return self.starter if self.trainer is self else self.trainer

    @property
    def origin(self) -> 'Run':
        """The run that the chain of needed ones begins with: mostly this one."""
        return self if self.needed is None else self.needed.origin

    @property
    def ready(self) -> bool:
        """Whether it can start; one that needs another's network waits for it."""
        return self.needed is None or self.needed.finished

    def config(self, part: str) -> Config:
        """The config of 'train' or 'test', with a work folder of its own."""
        options = {**self.suite.options, **self.method.options}
        return load_config(
            self.method.config, str(self.folder / part), self.suite.data_root, self.seed, options=options
        )

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What the results will depend on, from the config and the data as they are now."""
        found = fingerprints(self.config('test'))
        return {'settings': self.settings, 'trainer': self.trainer_settings, 'fingerprints': found}

    @property
    def settings(self) -> str:
        """A digest of the config, and of those of the networks that it starts from."""
        start = [] if self.starter is None else [self.starter.settings]
        return '+'.join([settings_digest(self.config('test')), *start])

    @property
    def trainer_settings(self) -> str | None:
        """The digest of the run whose networks are tested, if it is another one."""
        return None if self.trainer is self else self.trainer.settings

    def noted_plan(self) -> dict[str, Any]:
        """The plan that was noted when the run began; empty if it has not."""
        path = self.folder / 'plan.json'
        return read_json(path) if path.is_file() else {}

    def check_settings(self) -> None:
        """Raise if the run began with other settings than it would now; needs no data.

        Raises:
            Mistake: names the folder.
        """
        noted, settings = self.noted_plan(), {'settings': self.settings, 'trainer': self.trainer_settings}
        if any(noted.get(key, now) != now for key, now in settings.items()):  # an earlier version noted no trainer
            raise Mistake(
                f'{self.folder} was begun with other settings than {self.method.config} and the suite have now; '
                'remove it, restore them, or choose another --work-dir.'
            )

    def check_plan(self) -> None:
        """Raise if the run began with other settings, data or protocol than it would now.

        Raises:
            Mistake: names what differs, and the folder.
        """
        self.check_settings()
        noted = self.noted_plan()
        if changed := noted and differing(noted['fingerprints'], self.plan['fingerprints']):
            raise Mistake(
                f'{self.folder} was begun on other data or with another test protocol: {", ".join(changed)} '
                'changed since; remove it, restore them, or choose another --work-dir.'
            )

    def noted(self) -> dict[str, Any]:
        """What a finished run left in ``run.json``; an earlier version noted neither ``networks`` nor ``classes``."""
        return read_json(self.folder / 'run.json')

    def check_networks(self) -> None:
        """Raise if the network that a finished run needed was trained anew since.

        Raises:
            Mistake: names the folder.
        """
        if self.needed is None or not (self.finished and self.needed.finished):
            return
        began, now = self.noted().get('networks', {}), self.needed.noted().get('networks', {})
        if began and now and began['needed'] != now['tested']:
            raise Mistake(
                f'{self.folder} was made with another network than {self.needed.folder} has now; remove the first, and '
                'it is made again.'
            )

    def execute(self) -> None:
        """Train what is missing, test, and note the result."""
        write_text(self.folder / 'plan.json', json.dumps(self.plan, indent=2))
        if self.trainer is self:
            cfg = self.config('train')
            if self.starter is not None:
                cfg.load_from = str(find_checkpoint(self.starter.folder / 'train'))
            run_stages(cfg, resume=True)
        cfg = self.config('test')
        cost = self.folder / 'test' / 'cost.json'
        cfg.custom_hooks = [*cfg.get('custom_hooks', []), {'type': 'InferenceCost', 'out_file': str(cost)}]
        results = evaluate_checkpoint(cfg, find_checkpoint(self.trainer.folder / 'train'))
        summary = {
            'results': results,
            'cost': read_json(cost),
            'made_with': versions(),
            'networks': {'tested': network_hash(self.trainer), 'needed': self.needed and network_hash(self.needed)},
            'classes': list(build_dataset(cfg.test_dataloader.dataset).metainfo.get('classes', ())),
        }
        write_text(self.folder / 'run.json', json.dumps(summary, indent=2))


def network_hash(run: Run) -> str:
    """The hash of the tensors that a run's training ended with."""
    return hash_tensors(read_weights(find_checkpoint(run.folder / 'train')))


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """The names of fingerprints that differ, or that only one has."""
    both = {*first} & {*second}
    return sorted({*first} ^ {*second} | {name for name in both if not same(first[name], second[name])})


def versions() -> dict[str, str]:
    """What a run was made with."""
    return {'mmskin': mmskin.__version__, 'torch': torch.__version__}


def runs_of(suite: Suite, root: str | Path) -> list[Run]:
    """All runs of a suite, seed by seed, so that every method is seen early; those that need another's come later."""
    methods = sorted(suite.methods, key=lambda method: (method.weights_of is not None, method.starts_from is not None))
    return [Run(suite, method, seed, Path(root)) for seed in suite.seeds for method in methods]


def check_suite(runs: list[Run]) -> None:
    """Raise if a run began otherwise than it would now, needed another network, or two methods cannot be compared.

    Raises:
        Mistake: names the runs and what differs.
    """
    for run in runs:
        run.check_plan()
        run.check_networks()
    check_comparable({run.name: run.plan['fingerprints'] for run in runs}, runs[0].suite.may_differ)
