"""Training in stages, each an ordinary MMEngine run in its own folder below the work folder."""

import copy
import gc
import itertools
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.config import Config
from mmengine.dist import barrier, init_dist, is_distributed, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from mmskin.config import innermost_datasets
from mmskin.datasets.task_dataset import TaskDataset
from mmskin.engine.checkpoints import (
    DONE,
    NOTE,
    checkpoint_to_resume,
    finished_checkpoint,
    mark_finished,
    noted_checkpoints,
    sole_work,
)
from mmskin.engine.hooks.finite_numbers import FiniteNumbers, followed, refuse_missing
from mmskin.engine.hooks.weights import keep_best
from mmskin.engine.mixed_precision import in_mixed_precision
from mmskin.engine.resume import NOTE as SETTINGS
from mmskin.engine.resume import (
    NoteSettings,
    changes,
    described,
    former_stages,
    refuse_changes,
    refuse_other_stages,
    settings_of,
    trains_longer,
)
from mmskin.engine.runner import refusals_in_log
from mmskin.errors import MissingFile, Mistake, refusals
from mmskin.files import check_name, write_text
from mmskin.models.weights import average_weights, load_from_anywhere, read_checkpoint, write_checkpoint
from mmskin.registry import DATASETS, RUNNERS, checked

RUN_NUMBER = itertools.count(1)


def stage_configs(cfg: Config) -> list[Config]:
    """One config per stage: the whole with the stage's own settings merged in.

    ``cfg.stages`` lists dicts: ``name``, and any setting that differs, nested or as ``{'train_cfg.max_epochs': 80}``.
    A stage with ``average_of=3`` trains three times from the same start, with seeds of their own, and ends with the
    mean of the three networks' weights (a uniform soup, https://arxiv.org/abs/2203.05482). One with
    ``ends_with='best:cls/AUC_mean'`` ends with the checkpoint whose validation was best, not with the last.
    A config without stages is its own only stage, in the work folder itself.
    """
    if not cfg.get('stages'):
        return [copy.deepcopy(cfg)]
    names = [stage.get('name') for stage in cfg.stages]
    for name in names:
        check_name(name, "a stage's name")
    if len({name.casefold() for name in names}) < len(names):  # as of their folders on some disks
        raise Mistake(f'the stages are named {names}; give each a name of its own, also without its capitals')
    configs = []
    for number, stage in enumerate(cfg.stages):
        merged = copy.deepcopy(cfg)
        merged.pop('stages')
        if number > 0:
            merged.load_from = None  # what the whole starts from; the later stages start from the one before
        merged.merge_from_dict({key: value for key, value in stage.items() if key != 'name'})
        # the command line's options for all stages (none says how the whole starts), and then the stage's own, as
        # stages.0.train_cfg.max_epochs
        options, own = cfg.get('command_line_options', {}), f'stages.{number}.'
        shared = {k: value for k, value in options.items() if k.split('.')[0] not in ('stages', 'load_from', 'resume')}
        shared |= {key.removeprefix(own): value for key, value in options.items() if key.startswith(own)}
        merged.merge_from_dict(copy.deepcopy(shared))
        merged.stage = stage['name']
        merged.work_dir = str(Path(cfg.work_dir) / stage['name'])
        configs.append(merged)
    return configs


def datasets_of(cfg: Config) -> list[TaskDataset]:
    """The data sets that the stages read, inside wrappers too, each once and without a cache.

    Raises:
        Mistake: if one is none of mmskin's, or a stream: its images cannot be asked for one by one.
    """
    datasets: dict[str, TaskDataset] = {}
    for stage in stage_configs(cfg):
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            for settings in innermost_datasets(stage[name]) if stage.get(name) else ():
                settings = copy.deepcopy({key: value for key, value in settings.items() if key != 'cache'})
                if str(settings) not in datasets:
                    with refusals(str(cfg.filename)):
                        dataset = DATASETS.build(settings)
                    if not isinstance(dataset, TaskDataset):
                        raise Mistake(
                            f'{cfg.filename}: the images of the {type(dataset).__name__} in {name} can be neither '
                            'checked nor cached; name a config with a data set that lists its images'
                        )
                    datasets[str(settings)] = dataset
    return [*datasets.values()]


@checked
def run_stages(cfg: Config, resume: bool = False) -> Path:
    """Train every stage of ``cfg`` in order; each starts from the weights that the one before ended with.

    A finished stage keeps its weights without the optimizer's state, and an earlier stage keeps them until the next has
    finished if ``cfg.keep_stages`` is False.

    Args:
        cfg: A config with ``work_dir`` set.
        resume: Skip finished stages and continue from the last checkpoint of the interrupted one, or of the last
            one if it has more epochs now, by the schedule, rates and weight decay that the config has now. Otherwise
            what the work folder holds of an earlier training is forgotten (its files are overwritten as training goes).

    Raises:
        Mistake: if the config is for tests only, a stage is not as it should be, another training works in the folder,
            what is there to resume from is damaged, or has gone too far for what the config says now.

    Returns:
        The last stage's final checkpoint, whose path also stands in ``<work_dir>/last_checkpoint``.
    """
    join_processes(cfg)
    with refusals_in_log(str(cfg.filename)):
        stages = stage_configs(cfg)
        if missing := [
            name for stage in stages for name in ('train_dataloader', 'optim_wrapper') if not stage.get(name)
        ]:
            raise Mistake(f'{cfg.filename}: has no {missing[0]}, so there is nothing to train; train another config')
        with sole_work('training', [cfg.work_dir, *(stage.work_dir for stage in stages)]):
            return _run_all(cfg, stages, resume or cfg.get('resume', False))


def _run_all(cfg: Config, stages: list[Config], resume: bool) -> Path:
    outdated = [] if resume else [cfg.work_dir, *(folder for stage in stages for folder in _folders(stage))]
    if resume:
        names = ['', *(stage.get('stage') for stage in stages)] if cfg.get('stages') else [None]
        places = {folder: name for name, stage in zip(names, stages, strict=False) for folder in _folders(stage)}
        refuse_other_stages(cfg.work_dir, places)
        are_there = [
            any(Path(folder, name).exists() for folder in _folders(stage) for name in (DONE, NOTE)) for stage in stages
        ]
        first_gone = [*are_there, False].index(False)
        if True in are_there[first_gone:]:  # it followed another stage than the one that would be trained now
            later, gone = stages[are_there.index(True, first_gone)].work_dir, stages[first_gone].work_dir
            raise Mistake(f'{later}: was trained after {gone}, which is gone; restore that, or remove {later}')
    else:
        outdated += former_stages(cfg.work_dir)
    pending = [stage for stage in stages if not resume or finished_checkpoint(stage.work_dir) is None]
    for stage in pending[1:]:
        _check(copy.deepcopy(stage))
    checkpoint = None
    for number, stage in enumerate(stages, start=1):
        if number > 1:
            gc.collect()  # the last stage's runner and network refer to each other, and would stay beside the next
        if is_main_process():
            print(f'stage {number} of {len(stages)}: {stage.work_dir}', flush=True)
        checkpoint, outdated = _average(stage, checkpoint, outdated, number == len(stages)), []
        if number > 1 and not cfg.get('keep_stages', True):
            files = [file for folder in _folders(stages[number - 2]) for file in noted_checkpoints(folder)]
            for file in files if is_main_process() else ():  # the stage's mark stays, so that a resume skips it
                file.unlink(missing_ok=True)
            barrier()
    assert checkpoint is not None, 'there is at least one stage'
    if not checkpoint.is_file():
        raise MissingFile(
            f'{checkpoint}: gone, though the training has finished; remove {DONE} there to train it again'
        )
    if resume:  # perhaps nothing was left to train
        read_checkpoint(checkpoint)
    if is_main_process():
        write_text(Path(cfg.work_dir) / NOTE, str(checkpoint))
    return checkpoint


def _check(stage: Config) -> None:
    """Build what a stage needs, in a folder that is removed, and so before an earlier stage takes hours."""
    if stage.get('runner_type', 'LesionRunner') != 'LesionRunner':
        return
    with TemporaryDirectory(prefix='mmskin-check-') as folder:
        stage.work_dir, stage.load_from, stage.visualizer = folder, None, None
        keep_best(stage)
        runner = build_runner(stage)
        _ = runner.train_loop, runner.val_loop
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if runner.param_schedulers is not None:
            runner.build_param_scheduler(runner.param_schedulers)
        runner.call_hook('before_run')
    del runner
    gc.collect()  # a runner and its network refer to each other
    torch.cuda.empty_cache()


def _average(cfg: Config, start: Path | None, outdated: list[str], is_last: bool) -> Path:
    """Run a stage as often as it says, in folders below its own, and average; once, unless it says anything."""
    times = cfg.get('average_of', 1)
    if times < 1:
        raise Mistake(f'{cfg.work_dir}: average_of={times}; train once or more')
    if times == 1:
        return _run_stage(cfg, start, outdated, is_last)
    first = cfg.get('randomness', {}).get('seed', 0) * times
    outcomes = []
    for number in range(times):
        member = copy.deepcopy(cfg)
        member.merge_from_dict(
            {'randomness.seed': (first + number) % 2**32, 'work_dir': str(Path(cfg.work_dir) / str(number))}
        )
        outcomes.append(_run_stage(member, start, outdated, is_last))
        outdated = []
    mean = Path(cfg.work_dir) / 'average.pth'
    if not (is_last or all(path.is_file() for path in outcomes)):
        return mean  # of a stage whose weights were dropped, since the next one has finished
    if is_main_process():
        write_checkpoint(mean, {'state_dict': average_weights(outcomes)})
        write_text(mean.with_name(NOTE), str(mean))
    barrier()
    return mean


def _folders(stage: Config) -> list[str]:
    """Where a stage leaves checkpoints."""
    members = range(stage.get('average_of', 1))
    return [stage.work_dir, *(str(Path(stage.work_dir) / str(number)) for number in members)]


def _run_stage(cfg: Config, start: Path | None, outdated: list[str], is_last: bool) -> Path:
    """Train one stage, or find that it is done; gives its final checkpoint.

    The ``outdated`` folders hold an earlier training, which is forgotten once model and data have turned out to be
    sound: a mistyped command must not cost a training.
    """
    settings = settings_of(cfg)
    changed = {} if outdated else changes(cfg.work_dir, settings)
    finished = None if outdated else finished_checkpoint(cfg.work_dir)
    is_ours = cfg.get('runner_type', 'LesionRunner') == 'LesionRunner'
    if finished and is_last and trains_longer(changed) and not is_ours:
        raise Mistake(
            f'{cfg.work_dir}: this training has finished, and {cfg.runner_type} cannot continue without the '
            f'state of the optimizer, which is gone; train in another --work-dir, from load_from={finished}'
        )
    if finished and not (is_last and trains_longer(changed)):
        if others := {name: pair for name, pair in changed.items() if not name.startswith('custom_hooks')}:
            raise Mistake(
                f'{cfg.work_dir}: this training has finished, and can no longer change {described(others)}; restore '
                'it, set it in a later stage (stages.2.optim_wrapper.optimizer.lr=1e-4), or train in another --work-dir'
            )
        if changed:
            _say(f'{cfg.work_dir}: this training has finished, so other hooks change nothing: {described(changed)}')
        return finished
    latest = None if outdated else checkpoint_to_resume(cfg.work_dir)
    cfg.resume = latest is not None
    if latest is not None:
        if (cfg.get('strategy') or {}).get('type') == 'FSDPStrategy':
            raise Mistake(
                f"{cfg.work_dir}: mmengine's FSDPStrategy cannot bring back the optimizer's state, so the stage cannot "
                f'continue; train it in another --work-dir, from load_from={latest}, or by DDPStrategy'
            )
        refuse_changes(cfg.work_dir, settings, changed, is_ours)
        cfg.load_from = str(latest)
        earlier = sorted(Path(cfg.work_dir).glob('*/vis_data'))
        if earlier and cfg.get('visualizer'):  # mmengine's own way is a new folder, and so another curve
            cfg.visualizer.setdefault('save_dir', str(earlier[-1].parent))
    elif start is not None and not cfg.get('load_from'):
        cfg.load_from = str(start)
    after = (start.parent.name if start else '') if cfg.get('stage') else None
    return _train(cfg, NoteSettings(cfg.work_dir, settings, Path(cfg.work_dir) / DONE, after), outdated)


def _train(cfg: Config, note: NoteSettings, outdated: list[str]) -> Path:
    """Build what a stage needs, try what may fail, and train to the end."""
    _say('building the network and opening the data')
    metric = keep_best(cfg)
    runner = build_runner(cfg)
    runner.register_hook(note)
    if not any(isinstance(hook, FiniteNumbers) for hook in runner.hooks):  # of a runner that is not ours
        runner.register_hook(FiniteNumbers())
    if outdated and isinstance(runner, Runner):  # what may fail, first
        _say('trying a batch of the validation')
        _ = runner.train_loop  # built at first sight, data set and all
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        rehearse_validation(runner, evaluate=bool(followed(runner)))
        runner.model.train()  # a weighting looks for its library
        if cfg.get('load_from'):
            load_from_anywhere(cfg.load_from)
    if is_main_process():  # or a later resume would take the marks of an earlier training for this one's
        for file in (Path(folder, name) for folder in outdated for name in (DONE, NOTE, SETTINGS)):
            file.unlink(missing_ok=True)
    barrier()
    _say('training; the first line follows after some steps')
    runner.train()
    barrier()  # the main process writes the checkpoint
    if not (saved := noted_checkpoints(cfg.work_dir)):
        raise Mistake(f'{cfg.work_dir}: the stage saved no checkpoint; set default_hooks.checkpoint.interval')
    final = saved[0]
    if metric:
        kept = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and hook.save_best]
        if not kept or not kept[0].best_ckpt_path:  # where all are nan
            raise Mistake(f'{runner.work_dir}: no validation gave a {metric} to end with; leave ends_with out')
        final = Path(runner.work_dir, Path(kept[0].best_ckpt_path).name)  # by name: the folder may have moved
    if is_main_process():
        mark_finished(runner, saved[0], final)
    barrier()
    return final


def _say(what: str) -> None:
    """Announce what takes a while, once for all processes."""
    if is_main_process():
        print(f'  {what} ...', flush=True)


def rehearse_validation(runner: Runner, evaluate: bool = True) -> set[str]:
    """Send one batch through validation, so that data and network that do not fit show before an epoch's end.

    No random number of the training is used up.

    Returns:
        The names of the metrics, if they are asked for; none without a validation.
    """
    if (loop := runner.val_loop) is None:
        refuse_missing(runner, ())
        return set()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        batch = next(iter(loop.dataloader))
        loop.evaluator.process(data_samples=runner.model.eval().val_step(batch), data_batch=batch)
        names = {*loop.evaluator.evaluate(len(loop.dataloader.dataset))} if evaluate else set()
    if evaluate:  # of images without labels, a metric gives nothing
        silent = {f'{part.prefix}/' for part in loop.evaluator.metrics} - {f'{name.split("/")[0]}/' for name in names}
        refuse_missing(runner, names, tuple(silent))
    for part in loop.evaluator.metrics:
        part.results.clear()
    return names


def build_runner(cfg: Config) -> Runner:
    """The runner of one stage, or of a test; several may follow each other in one process.

    MMEngine keeps logger, log and figures of every run, and continues with the last.
    """
    for kind in (MMLogger, MessageHub, Visualizer):
        while len(kind._instance_dict) > 1:
            kind._instance_dict.popitem(last=False)
    # a name of its own for each run, since mmengine keeps loggers and message hubs by name
    name = f'{Path(cfg.filename or "run").stem}_{cfg.get("stage", "run")}_{next(RUN_NUMBER)}'
    cfg.setdefault('experiment_name', name)
    if cfg.get('amp') and cfg.get('optim_wrapper'):
        in_mixed_precision(cfg)
    if is_distributed():
        devices = [int(os.environ['LOCAL_RANK'])] if torch.cuda.is_available() else None
        cfg.setdefault('model_wrapper_cfg', {'device_ids': devices, 'broadcast_buffers': devices is None})
        cfg.model_wrapper_cfg.setdefault('type', 'mmskin.DistributedModel')
    cfg.setdefault('runner_type', 'LesionRunner')
    if isinstance(strategy := cfg.get('strategy'), dict):
        wrapper = {'DDPStrategy': 'mmskin.DistributedModel', 'FSDPStrategy': 'mmskin.ShardedModel'}
        if strategy.get('type') == 'FSDPStrategy':
            strategy.setdefault('state_dict_cfg', 'full')  # a stage begins with whole weights, and ends with them
        if strategy.get('type') in wrapper:
            on_cpu = {'device_id': 'cpu'} if 'FSDP' in strategy['type'] else {'device_ids': None}
            options = {'type': wrapper[strategy['type']], **({} if torch.cuda.is_available() else on_cpu)}
            strategy['model_wrapper'] = {**options, **(strategy.get('model_wrapper') or {})}
    if cfg.get('visualizer'):
        cfg.visualizer.name = cfg.experiment_name
    return RUNNERS.build(cfg)


# by launcher, the variable by which a process knows which one it is, and what sets that
LAUNCHERS = {'pytorch': ('RANK', 'torchrun (tools/dist_train.sh)'), 'slurm': ('SLURM_PROCID', 'srun')}


def join_processes(cfg: Config) -> None:
    """Join the process group here once: mmengine's own start selects a GPU and so fails on a machine without."""
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or is_distributed():
        return
    variable, started_by = LAUNCHERS.get(launcher, (None, ''))
    if variable is None:
        raise Mistake(f'launcher={launcher!r}; give {", ".join(LAUNCHERS)} or none')
    if variable not in os.environ:
        raise Mistake(
            f'launcher={launcher!r}, but {variable} is not set, so {started_by} did not start this process; '
            "start it so, or leave launcher at 'none'"
        )
    if launcher == 'slurm' and not torch.cuda.is_available():
        raise Mistake("launcher='slurm': mmengine starts it on GPUs alone, and there is none; use tools/dist_train.sh")
    with refusals(f'launcher={launcher!r}'):
        if torch.cuda.is_available():
            init_dist(launcher, **cfg.get('env_cfg', {}).get('dist_cfg', {}))
        else:
            torch.distributed.init_process_group('gloo')
