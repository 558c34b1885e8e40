"""A config as the command line asks for it."""

import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

__all__ = ['load_config']


def load_config(
    path: str | Path,
    work_dir: str | None = None,
    data_root: str | None = None,
    seed: int | None = None,
    amp: bool = False,
    options: dict[str, Any] | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config file and apply what the command line changes.

    Args:
        path: The Python config.
        work_dir: Where checkpoints and logs go; ``work_dirs/<config's name>`` if neither this nor the config says.
        data_root: Data folder for training, validation and test, in place of the config's.
        seed: Seed of weights, sampling and augmentation.
        amp: Train in mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.
        options: Settings by dotted name, e.g. ``{'train_cfg.max_epochs': 2}``; they win over everything else,
            a stage's own settings included.
        launcher: How the processes were started: 'none', 'pytorch' or 'slurm'.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such config; the ones that come with mmskin are in configs/')
    sys.path.append(str(Path(path).resolve().parent))  # a plugin may lie beside the config that names it
    cfg = Config.fromfile(str(path))
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(path).stem)
    cfg.launcher = launcher
    if data_root is not None:
        _set_data_root(cfg, data_root)
    if seed is not None:
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}
    if amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'BFloat16OptimWrapper'
    if options:
        cfg.merge_from_dict(options)
        cfg.options = options  # for the stages, whose settings would win over these otherwise
    if 'custom_imports' in cfg:
        import_modules_from_strings(**cfg.custom_imports)
    return cfg


def _set_data_root(cfg: Config, data_root: str) -> None:
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(name):
            cfg[name].dataset.data_root = data_root
