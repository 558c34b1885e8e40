"""A search for good settings: trials on Ray Tune, chosen by Optuna, of which ASHA prunes those that fall behind."""

import json
import logging
import math
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmskin.cluster import as_here, connected, resources
from mmskin.config import load_config
from mmskin.engine.dry_run import validation_metrics
from mmskin.engine.stages import run_stages
from mmskin.errors import Mistake
from mmskin.files import read_note, write_csv, write_note
from mmskin.registry import HOOKS

NOTE = 'sweep.json'
REPORTS = 'validations.json'
RANGE = re.compile(r'\s*([-+.\deE]+)\s*\.\.\s*([-+.\deE]+)\s*')
NUM_RANDOM = 8  # trials before Optuna has seen enough to choose
REDUCTION = 3  # one of so many trials continues at each rung


@dataclass(frozen=True)
class Sweep:
    """What is searched, and by what it is judged.

    Attributes:
        config: The config's path.
        work_dir: Trials, a table and the state of the search go here.
        search: By setting's dotted name: ``'1e-4..1e-2'`` for a number in between (on a logarithmic scale if the upper
            end is 10 times the lower one or more; a whole one if both ends are), or a list of values.
        metric: Of validation, such as ``seg/JA``.
        mode: Whether ``max`` or ``min`` of it is good.
        trials: How many.
        data_root: In place of the config's.
        seed: Of the search, and of the trials instead of the config's.
        options: Other settings for all trials.
    """

    config: str
    work_dir: str
    search: Mapping[str, Any]
    metric: str
    mode: str = 'max'
    trials: int = 20
    data_root: str | None = None
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def trial_config(self, settings: Mapping[str, Any], folder: str) -> Any:
        """The config of a trial."""
        options = {**self.options, **settings}
        cfg = load_config(self.config, folder, self.data_root, self.seed, options=options)
        if not cfg.get('val_dataloader'):
            raise Mistake(f'{self.config}: has no validation, by which trials are judged; sweep another config')
        cfg.custom_hooks = [*cfg.get('custom_hooks', ()), dict(type='ReportValidation', metric=self.metric)]
        return cfg


@HOOKS.register_module()
class ReportValidation(Hook):
    """Tells Ray Tune how a validation went, which may end the trial there; nothing outside a sweep.

    Args:
        metric: Of the validation; one without it, as of another stage, is not told.
    """

    priority = 'LOWEST'  # after the checkpoint

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note it in the trial's folder, and report it once."""
        if not metrics or self.metric not in metrics:
            return
        from ray import tune

        root = Path(runner.cfg.get('sweep_folder') or runner.work_dir)
        place = f'{runner.cfg.get("stage") or ""}:{runner.iter}'
        noted = validations_of(root)
        if place in [entry['place'] for entry in noted]:  # reported before the trial was interrupted
            return
        value, number = float(metrics[self.metric]), len(noted) + 1  # counted over all that the trial had
        write_note(
            root / REPORTS, {'validations': [*noted, {'place': place, self.metric: value, 'validation': number}]}
        )
        tune.report({self.metric: value, 'validation': number})


def validations_of(root: Path) -> list[dict[str, Any]]:
    """What a trial has reported."""
    try:
        return read_note(root / REPORTS)['validations']
    except FileNotFoundError:
        return []


def run_trial(settings: Mapping[str, Any], plan: Sweep) -> None:
    """One training of the sweep, in a process of Ray Tune; it continues where it was interrupted."""
    from ray import tune

    folder = Path(plan.work_dir, 'trials', tune.get_context().get_trial_id())
    cfg = plan.trial_config(settings, str(folder))
    cfg.sweep_folder = str(folder)
    for entry in validations_of(folder):  # the scheduler counts again
        value = math.nan if entry[plan.metric] is None else entry[plan.metric]  # as JSON has it
        tune.report({plan.metric: value, 'validation': entry['validation']})
    folder.mkdir(parents=True, exist_ok=True)
    run_stages(cfg, resume=True)


def space_of(search: Mapping[str, Any]) -> dict[str, Any]:
    """What Ray Tune draws from."""
    from ray import tune

    space = {}
    for name, values in search.items():
        ends = RANGE.fullmatch(values) if isinstance(values, str) else None
        if ends is None:
            if not isinstance(values, list | tuple) or len(values) < 2:
                raise Mistake(f'{name}={values}: give a range such as 1e-4..1e-2, or values such as [16,32]')
            space[name] = tune.choice([*values])
            continue
        try:
            whole = all(re.fullmatch(r'[-+]?\d+', text) for text in ends.groups())
            low, high = (int(text) if whole else float(text) for text in ends.groups())
        except ValueError as error:
            raise Mistake(f'{name}={values}: give numbers, such as 1e-4..1e-2') from error
        if low >= high:
            raise Mistake(f'{name}={values}: the first number has to be below the second')
        if whole:
            space[name] = tune.randint(int(low), int(high) + 1)
        else:
            space[name] = tune.loguniform(low, high) if low > 0 and high >= 10 * low else tune.uniform(low, high)
    return space


def sweep(plan: Sweep, address: str | None = None) -> dict[str, Any]:
    """Run the trials that are missing, and write ``sweep.csv``; the settings of the best, its folder and its value.

    A trial that is lost with its process or node continues from its last checkpoint, twice at most, and so does a sweep
    that was interrupted when it is called again.

    Raises:
        Mistake: if Ray does not start, a setting or a value that is listed for it cannot be, the work folder is that of
            another sweep or damaged, no validation gives the metric, or no trial has a value.
    """
    root = Path(os.path.abspath(plan.work_dir))
    note = json.loads(json.dumps(asdict(plan)))
    if (root / NOTE).is_file() and (was := read_note(root / NOTE)) != note:
        changed = ', '.join(sorted(key for key in note if was.get(key) != note[key]))
        raise Mistake(f'{root}: was started with another {changed}; restore it, or choose another --work-dir')
    state = root / 'state'
    goes_on = is_whole(state)
    if not goes_on and (root / 'trials').exists():
        raise Mistake(f'{state}: damaged, as by a kill or a full disk; remove {root} to search from scratch')
    space = space_of(plan.search)
    first = {name: values.sample() for name, values in space.items()}
    plan.trial_config(first, str(root))
    listed = [(name, value) for name, values in space.items() for value in getattr(values, 'categories', ())]
    tried = [('', first), *((f'--search {name}={value}: ', {**first, name: value}) for name, value in listed)]
    for number, (where, settings) in enumerate(() if (root / NOTE).is_file() else tried):
        if number and settings == first:
            continue
        try:
            metrics = validation_metrics(plan.trial_config(settings, str(root)))
        except Mistake as error:
            raise Mistake(f'{where}{error}') from error
        if plan.metric not in metrics:
            raise Mistake(f'{where}--metric {plan.metric}: validation gives {", ".join(sorted(metrics))}')
    with connected(address):
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        logging.getLogger('ray.tune').setLevel(logging.ERROR)
        write_note(root / NOTE, note)
        wanted = resources()
        folder = os.getcwd()

        def train(settings: dict[str, Any]) -> None:
            as_here(run_trial, folder, int(wanted['num_cpus']))(settings, plan)

        trainable = tune.with_resources(train, {'cpu': wanted['num_cpus'], 'gpu': wanted['num_gpus']})
        if goes_on:
            tuner = tune.Tuner.restore(str(state), trainable, resume_unfinished=True, restart_errored=True)
        else:
            shutil.rmtree(state, ignore_errors=True)
            searcher = OptunaSearch(metric=plan.metric, mode=plan.mode, seed=plan.seed)
            scheduler = ASHAScheduler('validation', plan.metric, plan.mode, max_t=10_000, reduction_factor=REDUCTION)
            tuner = tune.Tuner(
                trainable,
                param_space=space,
                tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=plan.trials),
                run_config=tune.RunConfig(
                    name='state', storage_path=str(root), failure_config=tune.FailureConfig(max_failures=2), verbose=0
                ),
            )
        results = tuner.fit()
    return write_table(root, plan, results)


def is_whole(state: Path) -> bool:
    """Whether a sweep can go on from what Ray wrote, one file after the other and none of them at once."""
    for pattern in ('tuner.pkl', 'experiment_state-*.json', 'search_gen_state-*.json', 'searcher-state-*.pkl'):
        content = b''.join(path.read_bytes() for path in sorted(state.glob(pattern))[-1:])
        if not content.endswith((b'.', b'}')):  # as a whole pickle and JSON do
            return False
    return True


def write_table(root: Path, plan: Sweep, results: Any) -> dict[str, Any]:
    """Write ``sweep.csv``, the best trial first; that one."""
    rows: list[tuple[Any, ...]] = []
    for result in results:
        metrics = result.metrics or {}
        value = metrics.get(plan.metric)
        value = value if value is not None and math.isfinite(value) else None
        trial, count = metrics.get('trial_id', ''), metrics.get('validation', 0)
        rows.append((value, trial, count, result.config or {}, str(result.error or '').strip()))
    valued = [row for row in rows if row[0] is not None]
    if not valued:
        errors = [error.split('\n')[-1] for *_, error in rows if error]  # the end of a traceback
        raise Mistake(': '.join([f'{root}: no trial has a {plan.metric}', *errors[:1]]))
    best, *others = sorted(valued, key=lambda row: row[0], reverse=plan.mode == 'max')
    ranked = [best, *others, *(row for row in rows if row[0] is None)]
    head: Sequence[str] = ['trial', *plan.search, plan.metric, 'validations']
    lines = [[trial, *map(settings.get, plan.search), value, count] for value, trial, count, settings, _ in ranked]
    write_csv(root / 'sweep.csv', [head, *lines])
    return {'trial': best[1], 'value': best[0], 'settings': best[3], 'validations': [row[2] for row in ranked]}
