"""A config as the command line asks for it."""

import argparse
import ast
import copy
import difflib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.fileio import YamlHandler, register_handler
from mmengine.runner import Runner

import mmskin
from mmskin.errors import MissingFile, Mistake, executing, refusals
from mmskin.registry import DATASETS, MODELS, checked, is_of, options_of
from mmskin.structures import check_names, names_of


@checked
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
        work_dir: Where checkpoints and logs go; ``work_dirs/<config_name>`` if neither this nor the config says.
        data_root: Data folder for training, validation and test, instead of the config's.
        seed: Seed of weights, sampling and augmentation.
        amp: Train in mixed precision; see ``mmskin.engine.mixed_precision``.
        options: Settings by dotted name, e.g. ``{'train_cfg.max_epochs': 2}``; they win over everything else,
            a stage's own settings included. Two for one folder or seed are refused.
        launcher: How the processes were started: 'none', 'pytorch' or 'slurm'.

    Raises:
        MissingFile: if there is no such config.
        Mistake: if it is no Python, says no model, or an option or the seed does not fit.
    """
    path = Path(path)
    if not path.is_file():
        shipped = Path(mmskin.__file__).parent / path
        if path.parts[:1] != ('configs',) or not shipped.is_file():
            raise MissingFile(f'{path}: no such config; the ones that come with mmskin are in configs/')
        path = shipped
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # a plugin may lie next to the config that names it
    cfg = read_config(path)
    if 'model' not in cfg:
        raise Mistake(f'{path}: has no model, so it cannot be trained or tested')
    refuse_wrong_kinds(cfg, str(path))
    cfg.work_dir = work_dir or cfg.get('work_dir') or str(Path('work_dirs') / config_name(path))
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
        cfg.amp = True
    for name, value in (('work_dir', work_dir), ('randomness.seed', seed)):
        if options and value is not None and options.get(name, value) != value:
            raise Mistake(f'{path}: {name} is given as {value} and, by an option, as {options[name]}; give one')
    if options:
        try:
            cfg.merge_from_dict(ConfigDict(copy.deepcopy(options)))
        except (AttributeError, KeyError, TypeError) as error:
            raise Mistake(f'{path}: {", ".join(options)} cannot be set ({error.args[0]})') from error
        cfg.command_line_options = options  # for the stages, whose settings would win over these otherwise
    refuse_unknown_settings(cfg, path, options or {})
    refuse_wrong_kinds(cfg, str(path))
    if not str(cfg.work_dir).isprintable():  # names of checkpoints are lines of a file
        raise Mistake(f'work_dir={cfg.work_dir!r} has a control character in it; name another folder')
    if imports := cfg.get('custom_imports'):
        modules = imports.get('imports') if isinstance(imports, dict) else None
        if not isinstance(modules, str | list | tuple) or imports.keys() - {'imports', 'allow_failed_imports'}:
            raise Mistake(f'{path}: custom_imports={imports!r}; give dict(imports=["your_module"])')
        import_plugins([modules] if isinstance(modules, str) else modules, imports.get('allow_failed_imports', False))
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader') if cfg.get('cache') else ():
        for dataset in innermost_datasets(cfg[name]) if cfg.get(name) else ():
            if 'cache' in options_of(DATASETS.get(dataset['type']) or dict):
                dataset.setdefault('cache', cfg.cache)
    if cfg.get('test_dataloader'):
        with refusals(str(path)):
            for model in cfg.model.get('members', [cfg.model]):
                _tell_size(model.get('backbone'), tested_dataset(cfg).get('pipeline'))
    return cfg


def _tell_size(backbone: Any, pipeline: Any) -> None:
    """Tell networks in ``backbone`` that take the images' ``size`` what the first step of ``pipeline`` has as it."""
    size = pipeline[0].get('size') if pipeline else None
    pending: list[Any] = [backbone] if size and isinstance(backbone, Mapping) else []
    while pending:
        for part in pending.pop().values():
            if isinstance(part, dict) and isinstance(part.get('type'), str | type):
                if 'size' not in part and part['type'] in MODELS and 'size' in options_of(MODELS.get(part['type'])):
                    part['size'] = size
            elif isinstance(part, dict):
                pending.append(part)


@register_handler(['yaml', 'yml'])
class YamlWithoutCode(YamlHandler):
    """YAML whose tags cannot run Python, as mmengine lets them; tuples are read as it writes them."""

    def load_from_fileobj(self, file: Any, **options: Any) -> Any:
        """What the file holds."""
        return super().load_from_fileobj(file, **{'Loader': yaml.FullLoader, **options})


@cache
def statement_formatter() -> Callable[[str, dict], tuple[str, bool]]:
    """``FormatCode`` of yapf, which formats no statement twice."""
    # yapf's cache has its name before its content, so that a process beside reads nothing; without one, 20 ms more
    with patch('platformdirs.user_cache_dir', return_value=os.devnull):
        from yapf.yapflib.yapf_api import FormatCode

    @lru_cache(maxsize=512)
    def formatted(statement: str, *style: tuple) -> str:
        return FormatCode(statement, style_config=dict(style))[0]

    def format_code(text: str, style_config: dict) -> tuple[str, bool]:
        lines = [f'{line}\n' for line in text.split('\n')]
        statements = [''.join(lines[node.lineno - 1 : node.end_lineno]) for node in ast.parse(text).body]
        return ''.join(formatted(statement, *style_config.items()) for statement in statements), True

    return format_code


def pretty_text(cfg: Config, mmengine_text: property = Config.pretty_text) -> str:
    """MMEngine's, for which a run asks at its start and with each checkpoint; whole, yapf takes 0.2 s for it."""
    with patch('yapf.yapflib.yapf_api.FormatCode', statement_formatter()):
        return mmengine_text.__get__(cfg)


Config.pretty_text = property(pretty_text)


def read_config(path: str | Path) -> Config:
    """A Python file of settings as it is, with what it imports."""
    if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise Mistake(f'{path}: not a config: a config is a Python file')
    with executing(str(path)):
        cfg = Config.fromfile(str(path), import_custom_modules=False)
        pending = [*cfg.values()]  # a look at a class that a Python config names imports it
        while pending:
            value = pending.pop()
            if isinstance(value, Mapping):
                pending += value.values()
            elif isinstance(value, list | tuple):
                pending += value
    return cfg


# What a config may set: what mmengine's runner takes, what it reads besides, and what is mmskin's own.
SETTINGS = {
    *(inspect.signature(Runner.__init__).parameters.keys() - {'self', 'cfg'}),
    *('compile', 'custom_imports', 'strategy', 'model_wrapper_cfg', 'runner_type', 'sync_bn'),
    *(
        'amp',
        'average_of',
        'cache',
        'command_line_options',
        'ends_with',
        'keep_stages',
        'stage',
        'stages',
        'tta',
        'tta_model',
    ),
}


Part, Parts = Mapping[str, Any], Sequence[Mapping[str, Any]]
KINDS: list[tuple[Any, str, str]] = [
    (Part, 'model', 'a dict'),
    (
        Part | None,
        'auto_scale_lr default_hooks env_cfg log_processor model_wrapper_cfg optim_wrapper randomness',
        'a dict',
    ),
    (Part | None, 'test_cfg test_dataloader train_cfg train_dataloader tta_model', 'a dict'),
    (Part | None, 'val_cfg val_dataloader visualizer', 'a dict'),
    (Part | Parts | None, 'param_scheduler test_evaluator val_evaluator', 'a dict, or a list of dicts'),
    (Parts | None, 'custom_hooks stages', 'a list of dicts'),
    (str | None, 'cache default_scope ends_with experiment_name launcher load_from work_dir', 'a text'),
    (bool | None, 'keep_stages resume tta', 'True or False'),
    (int, 'average_of', 'a whole number'),
]


def refuse_wrong_kinds(settings: Mapping[str, Any], where: str) -> None:
    """Raise a ``Mistake`` at a setting of a config or a stage that is of another kind than everybody expects."""
    for kind, names, wanted in KINDS:
        for name in names.split():
            value = settings.get(name)
            by_place = 'list' in wanted and isinstance(value, Mapping) and all(str(key).isdigit() for key in value)
            if name in settings and not by_place and not is_of(value, kind):  # a stage may change one of a list
                raise Mistake(f'{where}: {name}={settings[name]!r}; give {wanted}')
    base = (settings.get('auto_scale_lr') or {}).get('base_batch_size', 1)
    if not is_of(base, int) or base < 1:
        raise Mistake(
            f'{where}: auto_scale_lr.base_batch_size={base!r}; give the batch size that the rate is for, from 1'
        )
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        pending = [loader['dataset']] if (loader := settings.get(name)) and 'dataset' in loader else []
        while pending:
            dataset = pending.pop()
            if not is_of(dataset, Part) or not all(is_of(dataset.get(key, []), Parts) for key in DATA_LISTS):
                raise Mistake(
                    f'{where}: {name}.dataset has {dataset!r}; give a dict, whose pipeline is a list of dicts'
                )
            pending += [*(dataset.get('datasets') or ()), *([dataset['dataset']] if 'dataset' in dataset else [])]
    for number, stage in enumerate(settings.get('stages') or ()):
        refuse_wrong_kinds(stage, f'{where}: stages[{number}]')


DATA_LISTS = ('pipeline', 'datasets')


def refuse_unknown_settings(cfg: Config, path: Path, options: Mapping[str, Any]) -> None:
    """Raise a ``Mistake`` at an option or a stage's setting that changes nothing, or at a misspelt one of the file.

    A Python config may have variables of its own: those that it reads itself, or that no setting's name is close to.
    """
    stages = cfg.get('stages')
    stages = stages if isinstance(stages, Iterable) else ()  # what is no list is refused by its kind
    given = [('', key) for key in options]
    for number, stage in enumerate(stages):
        if not isinstance(stage, Mapping):
            raise Mistake(f'{path}: stages[{number}]={stage!r}; give a dict with name and what is different')
        given += [(f'stages[{number}]: ', key) for key in stage if key != 'name']
    for place, key in given:
        name = str(key).partition('.')[0]
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=3)
            hint = f'did you mean {" or ".join(near)}?' if near else f'there are {", ".join(sorted(SETTINGS))}'
            raise Mistake(f'{path}: {place}{key} is not a setting; {hint}')
    for key in (key for key, value in options.items() if value == {}):
        emptied: Any = cfg
        for part in key.split('.'):
            emptied = emptied[int(part)] if isinstance(emptied, list | tuple) else emptied[part]
        if emptied:
            raise Mistake(
                f'{path}: {key}={{}} would change nothing, since a dict is merged with what is there; to empty it '
                f'give "{key}={{\'_delete_\': True}}"'
            )
    if path.suffix != '.py':
        return
    tree = ast.walk(ast.parse(path.read_text(encoding='utf-8')))
    read = {node.id for node in tree if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for key in cfg.keys() - SETTINGS - read:
        if key == key.lower() and (near := difflib.get_close_matches(key, SETTINGS, n=1, cutoff=0.85)):
            raise Mistake(f'{path}: nothing reads {key}; did you mean {near[0]}?')


def import_plugins(modules: Sequence[str], allow_failed: bool = False) -> None:
    """Import modules of the user's by their whole names."""
    for name in modules:
        if not isinstance(name, str) or not name or name.startswith('.'):
            raise Mistake(f'{name!r} cannot be imported; give the whole name of a module, such as my_package.gates')
        try:
            with executing(f'{name} cannot be imported'):
                import_module(name)
        except Mistake as error:
            if not (allow_failed and isinstance(error.__cause__, ImportError)):
                raise
            warnings.warn(f'{name} failed to import and is ignored: {error}', stacklevel=2)


def config_name(path: str | Path) -> str:
    """What a config is called: by its file, or in a model folder, where each is ``config.py``, by the folder."""
    path = Path(path).resolve()
    return path.parent.name if path.name == 'config.py' else path.stem


def set_in_datasets(loader: ConfigDict, key: str, value: Any) -> None:
    """Set ``key`` in every dataset of a loader's config, inside wrappers such as ``ConcatDataset`` as well."""
    for dataset in innermost_datasets(loader):
        dataset[key] = value


def texts_in(settings: Any) -> Iterator[str]:
    """Every text in nested settings."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, Mapping | list | tuple):
        for part in settings.values() if isinstance(settings, Mapping) else settings:
            yield from texts_in(part)


def innermost_datasets(loader: ConfigDict) -> Iterator[ConfigDict]:
    """The configs of a loader's datasets, inside wrappers as well."""
    pending = [loader.get('dataset')]
    while pending:
        dataset = pending.pop()
        if not isinstance(dataset, Mapping):
            raise Mistake(f"a loader's dataset={dataset!r}; give a dict, such as dict(type='CsvLesionDataset', ...)")
        inner = [*dataset.get('datasets', []), *([dataset['dataset']] if 'dataset' in dataset else [])]
        pending += inner
        if not inner:
            yield dataset


def tested_dataset(cfg: Config) -> ConfigDict:
    """The config of the data set that is tested, whose pipeline also prepares a user's images."""
    if not cfg.get('test_dataloader'):
        raise Mistake(f'{cfg.filename}: has no test_dataloader, which says how images are prepared; add one')
    return next(innermost_datasets(cfg.test_dataloader))


def tested_metainfo(cfg: Config) -> dict[str, Any]:
    """What the config's test set says of itself, such as the names of its classes."""
    dataset = tested_dataset(cfg)
    metainfo = {**getattr(DATASETS.get(dataset.type), 'METAINFO', {}), **(dataset.get('metainfo') or {})}
    check_names(metainfo)
    return metainfo


def class_names(cfg: Config, target: str = 'gt_label') -> list[str]:
    """The names that the config's test set has for a target's classes, in the order of the network's outputs."""
    return [str(name) for name in names_of(tested_metainfo(cfg), target)]


class SettingsAction(DictAction):
    """``--cfg-options name=value ...`` as a dict: Python's literals, and mmengine's ``[a,b]`` and ``true``.

    A mistake is answered as argparse does.
    """

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Add the settings to the namespace."""
        settings = dict(getattr(namespace, self.dest) or {})
        for setting in values:
            name, equals, text = setting.partition('=')
            if not name or not equals:
                parser.error(f'argument {option_string}: {setting!r} is not of the form name=value')
            try:
                settings[name] = _value(text)
            except (AssertionError, ValueError) as error:  # such as a bracket too many or too few
                parser.error(f'argument {option_string}: {error}')
        setattr(namespace, self.dest, settings)


def _value(text: str) -> Any:
    """What the text of a setting stands for.

    Raises:
        ValueError: if it is a dict that Python does not read; mmengine would take it for a string, or never end.
        AssertionError: if brackets do not match.
    """
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        if text.lstrip('[( ').startswith(('{', 'dict(')):
            raise ValueError(f"{text!r} is not a Python dict; write it as {{'type': 'SumOp'}}") from error
        return DictAction._parse_iterable(text)
    in_brackets = text.strip().startswith('(')
    if isinstance(value, tuple) != in_brackets:  # 1,2 is a list to mmengine, and (1) a tuple
        return DictAction._parse_iterable(text)
    return value
