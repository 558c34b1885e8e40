"""A config as the command line asks for it."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.config.utils import ConfigParsingError
from mmengine.utils import import_modules_from_strings

import mmskin
from mmskin.errors import MissingFile, Mistake
from mmskin.registry import DATASETS

__all__ = [
    'SettingsAction',
    'class_names',
    'innermost_datasets',
    'load_config',
    'set_in_datasets',
    'tested_dataset',
]


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
        path: The Python config; ``configs/...`` is also found among those that come with mmskin, from any folder.
        work_dir: Where checkpoints and logs go; ``work_dirs/<config's name>`` if neither this nor the config says.
        data_root: Data folder for training, validation and test, in place of the config's.
        seed: Seed of weights, sampling and augmentation.
        amp: Train in mixed precision: float16 with loss scaling on a GPU, bfloat16 on a CPU.
        options: Settings by dotted name, e.g. ``{'train_cfg.max_epochs': 2}``; they win over everything else,
            a stage's own settings included.
        launcher: How the processes were started: 'none', 'pytorch' or 'slurm'.

    Raises:
        MissingFile: if there is no such config.
        Mistake: if it is no Python, says no model, or an option or the seed does not fit.
    """
    path = find_config(path)
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a plugin may lie beside the config that names it
    cfg = read_config(path)
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / Path(path).stem)
    cfg.launcher = launcher
    if data_root is not None:
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            if cfg.get(name):
                set_in_datasets(cfg[name], 'data_root', data_root)
    if seed is not None:
        if not 0 <= seed < 2**32:
            raise Mistake(f'seed={seed} is not between 0 and {2**32 - 1}')
        cfg.randomness = {**cfg.get('randomness', {}), 'seed': seed}
    if amp:
        if not cfg.get('optim_wrapper'):
            raise Mistake(f'{path}: has no optim_wrapper, so there is nothing to train with --amp')
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'BFloat16OptimWrapper'
    if options:
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError) as error:
            raise Mistake(f'{path}: {", ".join(options)} cannot be set ({error.args[0]})') from error
        cfg.command_line_options = options  # for the stages, whose settings would win over these otherwise
    if 'custom_imports' in cfg:
        import_modules_from_strings(**cfg.custom_imports)
    return cfg


def read_config(path: Path) -> Config:
    """The config file as it is.

    Raises:
        Mistake: if it is no Python, or says no model.
    """
    try:
        cfg = Config.fromfile(str(path))
    except SyntaxError as error:
        raise Mistake(f'{path}, line {error.lineno}: {error.msg}') from error
    except ConfigParsingError as error:  # of a base that is not there
        raise Mistake(f'{path}: {error}') from error
    except OSError as error:  # of a suffix that is no config's
        raise Mistake(f'{path}: {error}; a config is a Python file') from error
    if 'model' not in cfg:
        raise Mistake(f'{path}: says no model, so it is no config to train or test')
    return cfg


def find_config(path: str | Path) -> Path:
    """The config at ``path``, or else the one of that name that comes with mmskin.

    Raises:
        MissingFile: if there is neither.
    """
    path = Path(path)
    shipped = Path(mmskin.__file__).parent / path
    for found in (path, *([shipped] if path.parts[:1] == ('configs',) else [])):
        if found.is_file():
            return found
    raise MissingFile(f'{path}: no such config; the ones that come with mmskin are in configs/')


def set_in_datasets(loader: ConfigDict, key: str, value: Any) -> None:
    """Set ``key`` in every dataset of a loader's config, inside wrappers such as ``ConcatDataset`` as well."""
    for dataset in innermost_datasets(loader):
        dataset[key] = value


def innermost_datasets(loader: ConfigDict) -> Iterator[ConfigDict]:
    """The configs of a loader's datasets, inside wrappers as well."""
    pending = [loader.dataset]
    while pending:
        dataset = pending.pop()
        inner = [*dataset.get('datasets', []), *([dataset.dataset] if 'dataset' in dataset else [])]
        pending += inner
        if not inner:
            yield dataset


def tested_dataset(cfg: Config) -> ConfigDict:
    """The config of the data set that is tested, whose pipeline also prepares a user's images.

    Raises:
        Mistake: if there is none.
    """
    if not cfg.get('test_dataloader'):
        raise Mistake(f'{cfg.filename}: has no test_dataloader, which says how images are prepared; add one')
    return next(innermost_datasets(cfg.test_dataloader))


def class_names(cfg: Config) -> list[str]:
    """The diagnoses that the config's test set tells apart, in the order of the network's outputs."""
    dataset = tested_dataset(cfg)
    metainfo = {**getattr(DATASETS.get(dataset.type), 'METAINFO', {}), **dataset.get('metainfo', {})}
    return list(metainfo.get('classes', ()))


class SettingsAction(DictAction):
    """``--cfg-options name=value ...`` as a dict, as mmengine reads it; a mistake is answered as argparse does."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Add the settings to the namespace."""
        if wrong := [value for value in values if '=' not in value]:
            parser.error(f'argument {option_string}: {wrong[0]!r} is not of the form name=value')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # a bracket too many or too few
            parser.error(f'argument {option_string}: {error}')
