"""Which settings a resumed training can still change, and which it cannot."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapperDict, ReduceOnPlateauParamScheduler, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmskin.datasets.task_dataset import digest_of
from mmskin.errors import Mistake
from mmskin.files import read_json, write_json
from mmskin.models.watch import unwrap

NOTE = 'settings.json'
COUNTED = (  # what the weights depend on
    *('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'model', 'train_dataloader', 'randomness'),
    *('ends_with', 'load_from', 'amp', 'custom_hooks'),
)
OF_MACHINE = ('cache', 'data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
OF_VALIDATION = ('val_interval', 'val_begin', 'dynamic_intervals')
LENGTHS = ('train_cfg.max_epochs', 'train_cfg.max_iters')
FIXED = (
    'load_from',
    'optim_wrapper.constructor',
    'optim_wrapper.optimizer.type',
    'train_cfg.by_epoch',
    'train_cfg.type',
)
ELSEWHERE = '.../'  # in front of the name of a file
Changes = dict[str, tuple[Any, Any]]


def settings_of(cfg: Config) -> dict[str, Any]:
    """What the weights of a stage depend on, by the names that the command line has for them."""
    plain = cfg.to_dict()
    settings = dict(_flat({name: plain[name] for name in COUNTED if plain.get(name) is not None}))
    if plain.get('load_from'):
        settings['load_from'] = Path(plain['load_from']).name  # the file may have moved
    return settings


def _flat(value: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Numbers and words below ``value``, by their paths; of files, which may move, their names."""
    if isinstance(value, Mapping | list | tuple):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            if key not in (*OF_MACHINE, *OF_VALIDATION):
                yield from _flat(part, f'{path}.{key}' if path else str(key))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, str(value)
    elif isinstance(value, str) and '/' in value:
        if Path(value).suffix:
            yield path, f'{ELSEWHERE}{Path(value).name}'
        elif not (value.startswith(('/', '~')) or '://' in value or Path(value).exists()):  # such as a metric's name
            yield path, value
    elif value is None or isinstance(value, str | int | float):
        yield path, value
    else:
        yield path, getattr(value, '__name__', type(value).__name__)


def changes(folder: str | Path, settings: Mapping[str, Any]) -> Changes:
    """Which settings are others now than those that a folder's training was begun or resumed with last."""
    path = Path(folder) / NOTE
    before, now = _noted(path)['settings'] if path.is_file() else settings, settings
    return {
        name: (before.get(name), now.get(name)) for name in sorted({*before, *now}) if before.get(name) != now.get(name)
    }


def _noted(path: Path) -> dict[str, Any]:
    """What ``NoteSettings`` wrote."""
    note = read_json(path)
    is_note = isinstance(note, dict) and isinstance(note.get('settings'), dict)
    if not is_note or not isinstance(note.get('processes'), int):
        raise Mistake(f'{path}: not written by a training; remove it to continue with the present settings')
    return note


def former_stages(folder: str | Path) -> list[str]:
    """The folders of the stages that trainings in ``folder`` had."""
    stages = []
    for path in sorted(Path(folder).glob(f'*/{NOTE}')):
        with suppress(Mistake, OSError):  # of other programs, such as .vscode
            stages += [str(path.parent)] if _noted(path).get('after') is not None else []
    return stages


def refuse_other_stages(folder: str | Path, stages: Mapping[str, str | None]) -> None:
    """Raise a ``Mistake`` if what is to be resumed has been trained in other stages, or in another order of them.

    Args:
        folder: Of the whole training.
        stages: The folders of its stages, with the stage that each follows: '' for the first, and None without stages.
    """
    whole, former = Path(folder, NOTE).is_file(), former_stages(folder)
    if whole and None not in stages.values():
        raise Mistake(f'{folder}: was trained without stages, and the config has some; train in another --work-dir')
    if former and not whole and None in stages.values():
        names = ', '.join(Path(place).name for place in former)
        raise Mistake(
            f'{folder}: was trained in stages ({names}), and the config has none; train in another --work-dir'
        )
    for place, after in stages.items():
        note = _noted(Path(place, NOTE)) if Path(place, NOTE).is_file() else {}
        if note.get('after', after) != after:
            then, now = (f'after {other!r}' if other else 'first' for other in (note['after'], after))
            raise Mistake(
                f'{place}: this stage was trained {then}, and would be {now} now; restore the order of the stages, or '
                'train in another --work-dir'
            )


def described(changed: Changes) -> str:
    """The changes in one line."""
    return ', '.join(f'{name} ({before} before, {now} now)' for name, (before, now) in changed.items())


def trains_longer(changed: Changes) -> bool:
    """Whether there are more epochs or iterations now."""
    pairs = [changed[name] for name in LENGTHS if name in changed]
    return any(isinstance(before, int) and isinstance(now, int) and now > before for before, now in pairs)


def refuse_changes(folder: str | Path, settings: Mapping[str, Any], changed: Changes, follows: bool = True) -> None:
    """Raise a ``Mistake`` at changes that a training which is under way cannot make.

    Those are what its progress is counted in, what its optimizer is, and a rate that follows the validations so far.
    A runner ``follows`` if it tells the optimizer what the config says, as ours does, not the checkpoint.
    """
    plateau = any(name.endswith('.type') and 'ReduceOnPlateau' in str(value) for name, value in settings.items())
    fixed = (*FIXED, 'param_scheduler', 'optim_wrapper.optimizer') if plateau or not follows else FIXED
    fixed = fixed if follows else (*fixed, 'randomness', 'amp')  # where the checkpoint's own would win
    refused = {name: pair for name, pair in changed.items() if name.startswith(fixed)}
    refused |= {name: pair for name, pair in changed.items() if name in LENGTHS and None in pair}
    if refused:
        raise Mistake(
            f'{folder}: a training that is under way can no longer change {described(refused)}; restore this, or train '
            'from scratch in another --work-dir'
        )


class NoteSettings(Hook):
    """Notes what a training is begun or resumed with, once nothing stands in its way, and says what is different.

    Args:
        folder: Of the stage.
        settings: Its ``settings_of``.
        mark: The file that says that the stage has finished, which it has not any more.
        after: The stage before; '' for the first one, and None without stages.
    """

    priority = 'VERY_HIGH'

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], mark: Path, after: str | None = None) -> None:
        self.path, self.settings, self.mark, self.after = Path(folder) / NOTE, settings, mark, after

    def before_train(self, runner: Runner) -> None:
        """Write the note."""
        data = digest_of(runner.train_loop.dataloader.dataset)
        if runner._resume and self.path.is_file():
            noted = _noted(self.path)
            if changed := changes(self.path.parent, self.settings):
                runner.logger.info(f'resumed with other settings: {described(changed)}')
            processes, now = noted['processes'], get_world_size()
            if processes != now:
                runner.logger.warning(
                    f'resumed in {now} process{"es"[: 2 * (now > 1)]}, and begun in {processes}: batches are others, '
                    'so results will differ from those of a training that was not interrupted'
                )
            if noted.get('data', data) != data:
                runner.logger.warning(
                    'the training set has other images, labels or inputs than when this training began, so results '
                    'will differ from those of a training that was not interrupted'
                )
        if is_main_process():
            self.mark.unlink(missing_ok=True)
            note = {'processes': get_world_size(), 'after': self.after, 'data': data, 'settings': self.settings}
            write_json(self.path, note, indent=1)


def continue_training(runner: Runner, checkpoint: dict[str, Any], name: str) -> None:
    """Bring a runner that is ready to train to where ``checkpoint`` was saved, with the settings of its own config.

    Moments of the optimizer and the log come from the checkpoint. Rates, weight decay and all else that an optimizer is
    given come from the config: the schedule is gone through up to here, as if it had been the config's from the start.
    Schedulers that follow the validation continue from the checkpoint's.

    Raises:
        Mistake: if the checkpoint is of another network or optimizer, or has been trained longer than the config says.
    """
    own, saved = unwrap(runner.model).state_dict(), checkpoint['state_dict']
    if odd := sorted(own.keys() ^ saved.keys()) or sorted(key for key in own if own[key].shape != saved[key].shape):
        raise Mistake(
            f'{name}: is of another network than the config: {len(odd)} parameters differ, such as {odd[0]}; restore '
            'model, or train from scratch in another --work-dir'
        )
    if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
        raise Mistake(f'{name}: was trained with EMAHook, which averages weights; restore it in custom_hooks')
    loop, meta = runner.train_loop, checkpoint['meta']
    by_epoch = isinstance(loop, EpochBasedTrainLoop)
    done, wanted = (meta['epoch'], loop.max_epochs) if by_epoch else (meta['iter'], loop.max_iters)
    unit = 'epochs' if by_epoch else 'iterations'
    if done > wanted:
        raise Mistake(f'{name}: has {done} {unit}, and train_cfg says {wanted}; give as many or more')
    loop._epoch, loop._iter = meta['epoch'], meta['iter']
    if by_epoch and loop.iter != done * len(loop.dataloader):
        loop._iter = done * len(loop.dataloader)
        runner.logger.warning(
            f'an epoch has {len(loop.dataloader)} steps now, and had others before, so results will differ from those '
            'of a training that was not interrupted'
        )
    runner.message_hub.load_state_dict(checkpoint['message_hub'])

    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    wrappers = [*wrapper.optim_wrappers.values()] if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    configured = [[{**group} for group in each.param_groups] for each in wrappers]
    if 'optimizer' in checkpoint:
        try:
            wrapper.load_state_dict(checkpoint['optimizer'])
        except (KeyError, ValueError) as error:
            raise Mistake(
                f'{name}: its optimizer has other parameters than that of the config ({error}); restore '
                'optim_wrapper.paramwise_cfg and model.frozen, or train from scratch in another --work-dir'
            ) from error
    elif done < wanted:
        runner.logger.warning(f'{name}: a stage that had finished has no state of the optimizer, which starts afresh')
    every = [*schedulers.values()] if isinstance(schedulers, dict) else [schedulers]
    flat = [scheduler for some in every for scheduler in some]
    if any(isinstance(scheduler, ReduceOnPlateauParamScheduler) for scheduler in flat):
        states = checkpoint.get('param_schedulers', [])
        states = [state for some in states.values() for state in some] if isinstance(states, dict) else states
        for scheduler, state in zip(flat, states, strict=True):
            scheduler.load_state_dict(state)
        return
    for each, groups in zip(wrappers, configured, strict=True):
        for group, options in zip(each.param_groups, groups, strict=True):
            group.update({key: value for key, value in options.items() if key != 'params'})
    go_through(flat, loop.epoch if by_epoch else 1, len(loop.dataloader) if by_epoch else loop.iter, by_epoch)


def go_through(schedulers: list[_ParamScheduler], epochs: int, steps: int, by_epoch: bool) -> None:
    """Take all the steps that the schedulers would have taken in so many epochs of so many steps."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that no step of the optimizer came before
        each_step = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
        each_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch and by_epoch]
        for scheduler in epochs * (steps * each_step + each_epoch):
            scheduler.step()
