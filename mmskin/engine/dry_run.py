"""One batch of every stage, to see what would stop a training before it costs any time."""

import gc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from torch.utils.data import DataLoader

from mmskin.engine.runner import LesionRunner, refuse_no_length
from mmskin.engine.stages import build_runner, join_processes, rehearse_validation, stage_configs
from mmskin.errors import Mistake, refusals
from mmskin.registry import RUNNERS


class OneBatch:
    """A loader that ends after its first batch."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        yield next(iter(self.loader))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


@RUNNERS.register_module()
class DryRunner(LesionRunner):
    """A runner whose epochs are one batch long."""

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """The loader's first batch."""
        return OneBatch(LesionRunner.build_dataloader(dataloader, *args, **kwargs))


def dry_run(cfg: Config) -> None:
    """Train and validate one batch in every stage, each from what the one before ended with; no file is left.

    Args:
        cfg: As ``load_config`` gives it; its work folder is not touched.

    Raises:
        Mistake: whatever a training would say, and if the config names a runner of its own.
    """
    if cfg.get('runner_type', 'LesionRunner') != 'LesionRunner':
        raise Mistake(f'{cfg.filename}: a dry run works with LesionRunner, not with {cfg.runner_type}')
    join_processes(cfg)
    with refusals(str(cfg.filename)), TemporaryDirectory(prefix='mmskin-dry-run-') as folder:
        stages = stage_configs(cfg)
        shared = [folder]
        broadcast_object_list(shared)
        start = None
        for number, stage in enumerate(stages):
            stage.work_dir = str(Path(shared[0]) / str(number))
            if start is not None and not stage.get('load_from'):
                stage.load_from = start
            runner = build_runner(shortened(stage))
            runner.train()
            barrier()
            start = str(Path(stage.work_dir) / 'dry.pth')
            runner.save_checkpoint(stage.work_dir, 'dry.pth', save_optimizer=False, save_param_scheduler=False)
            barrier()
            logs = runner.message_hub.log_scalars
            trained = {name[6:]: log.current() for name, log in logs.items() if name.startswith('train/')}
            losses = [f'{name} {value:.4f}' for name, value in trained.items() if 'loss' in name or '/' in name]
            validated = ' and one validated' if any(name.startswith('val/') for name in logs) else ''
            if is_main_process():
                name = stage.get('stage', 'the only stage')
                print(f'{name}: a batch trained ({", ".join(losses)}){validated}', flush=True)


def validation_metrics(cfg: Config) -> set[str]:
    """The names of the metrics that the stages' validations give, by one batch of each; no file is left."""
    with refusals(str(cfg.filename)), TemporaryDirectory(prefix='mmskin-dry-run-') as folder:
        names = set()
        for stage in stage_configs(cfg):
            stage.work_dir = folder
            runner = build_runner(shortened(stage))
            runner.build_optim_wrapper(runner.optim_wrapper)
            names |= rehearse_validation(runner)
            del runner
            gc.collect()  # a runner and its network refer to each other
        torch.cuda.empty_cache()  # for the trials, which may share the GPU with this process
        return names


def shortened(stage: Config) -> Config:
    """The stage with one step, one validation and one checkpoint, logged nowhere else."""
    stage.runner_type = 'DryRunner'
    stage.resume = False
    refuse_no_length(stage.train_cfg)
    by_epoch = stage.train_cfg.get('by_epoch', 'max_iters' not in stage.train_cfg)
    if 'max_epochs' in stage.train_cfg or 'max_iters' in stage.train_cfg:
        stage.train_cfg['max_epochs' if by_epoch else 'max_iters'] = 1
        stage.train_cfg.update(val_interval=1, val_begin=1)
        stage.train_cfg.pop('dynamic_intervals', None)
    if stage.get('default_hooks', {}).get('checkpoint'):
        stage.default_hooks.checkpoint.interval = 1  # also tries what it takes for the best
    if stage.get('visualizer'):
        stage.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    return stage
