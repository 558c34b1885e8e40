"""A suite: which methods are compared, with which seeds, on which data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

__all__ = ['Method', 'Suite', 'read_suite']


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: as the table has it.
        config: the Python config, relative to the suite's file.
        options: settings by dotted name that differ from the config.
        weights_of: the name of a method whose networks are tested here in another way, such as with test-time
            augmentation; nothing is trained then.
        starts_from: the name of a method from whose network, of the same seed, training starts, so that several
            methods can share what is the same in all of them.
        paper: the paper's numbers by metric, printed beside ours.
        note: what to know about the row; printed below the table.
    """

    name: str
    config: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    weights_of: str | None = None
    starts_from: str | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    note: str = ''

    @property
    def folder(self) -> str:
        """The name as a folder's."""
        return re.sub(r'[^\w.+-]+', '_', self.name)


@dataclass(frozen=True)
class Suite:
    """Methods times seeds.

    Attributes:
        name: the name of the suite's file.
        methods: at least one.
        seeds: each method is trained once with each.
        metrics: the table's columns, as keys of ``results.json``.
        data_root: the data folder of all methods, in place of their configs'.
        options: settings by dotted name for all methods; a method's own win.
        may_differ: which fingerprints of data or test protocol may differ between methods, e.g. 'train images' where
            additional training data is compared; printed with the table.
        title: the table's heading.
    """

    name: str
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    data_root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    may_differ: tuple[str, ...] = ()
    title: str = ''

    def method(self, name: str) -> Method:
        """The method of this name."""
        return next(method for method in self.methods if method.name == name)


def read_suite(path: str | Path, data_root: str | None = None, options: Mapping[str, Any] | None = None) -> Suite:
    """Read and check a suite, a Python file that assigns the attributes of :class:`Suite`.

    Args:
        path: the file.
        data_root: takes the place of the suite's.
        options: added to the suite's, and stronger.

    Raises:
        FileNotFoundError: if the suite or a method's config is missing.
        ValueError: if something else is named than suites have, a name repeats, ``weights_of`` names no method that
            is trained, or ``starts_from`` none that is trained from the beginning.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such suite; those that come with mmskin are in benchmarks/suites/')
    settings = Config.fromfile(str(path)).to_dict()
    check_names(settings, Suite, path)
    for entry in settings.get('methods', ()):
        check_names(entry, Method, path)
    methods = tuple(Method(**{**entry, 'config': path.parent / entry['config']}) for entry in settings['methods'])
    check_methods(methods, path)
    settings |= {key: tuple(settings.get(key, ())) for key in ('seeds', 'metrics', 'may_differ')}
    settings['options'] = {**settings.get('options', {}), **(options or {})}
    settings['data_root'] = data_root or settings.get('data_root')
    return Suite(**{**settings, 'name': path.stem, 'methods': methods})


def check_names(settings: dict, kind: type, path: Path) -> None:
    """Raise unless ``settings`` has names that ``kind`` knows, and those it needs."""
    known = {entry.name for entry in fields(kind)}
    needed = {'methods', 'seeds', 'metrics'} if kind is Suite else {'name', 'config'}
    wrong = {*settings} - known | needed - {*settings}
    if wrong or any(not settings[name] for name in needed):
        raise ValueError(
            f'{path}: {", ".join(sorted(wrong)) or "something"} of a {kind.__name__.lower()} is unknown, missing or '
            f'empty; it needs {", ".join(sorted(needed))}, and may have {", ".join(sorted(known - needed))}.'
        )


def check_methods(methods: tuple[Method, ...], path: Path) -> None:
    """Raise if a config is missing, a name repeats, or a method needs networks that no other trains."""
    if len({method.folder for method in methods}) < len(methods):
        raise ValueError(f'{path}: methods need names that differ: {", ".join(method.name for method in methods)}.')
    trained = [method.name for method in methods if method.weights_of is None]
    first = [method.name for method in methods if method.weights_of is None and method.starts_from is None]
    for method in methods:
        if not method.config.is_file():
            raise FileNotFoundError(f'{method.config}: no such config; {path} names it for {method.name!r}.')
        if method.weights_of and method.weights_of not in trained:
            raise ValueError(f'{path}: {method.name!r} has weights_of={method.weights_of!r}; trained are {trained}.')
        if method.starts_from and (method.weights_of or method.starts_from not in first):
            raise ValueError(
                f'{path}: {method.name!r} has starts_from={method.starts_from!r}; it can be one of {first}, for a '
                'method without weights_of.'
            )
