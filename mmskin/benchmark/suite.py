"""A suite: which methods are compared, with which seeds, on which data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmskin.benchmark.fingerprint import OF_TRAINING
from mmskin.errors import MissingFile, Mistake
from mmskin.files import check_name

__all__ = ['Method', 'Suite', 'read_suite']


KINDS: list[tuple[set[str], type | tuple[type, ...], str]] = [
    ({'methods', 'seeds', 'metrics', 'may_differ'}, (list, tuple), 'a list'),
    ({'options', 'paper'}, dict, 'a dict'),
    ({'name', 'config', 'title', 'note'}, str, 'a text'),
]


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
        may_differ: which fingerprints of the training data may differ between methods: 'train images', 'train cls' (the
            labels) and 'train seg' (the masks), where additional training data is compared; printed with the table.
            How methods are tested may not differ.
        baseline: the method that all others are compared with; by default any two are compared.
        title: the table's heading.
    """

    name: str
    methods: tuple[Method, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    data_root: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    may_differ: tuple[str, ...] = ()
    baseline: str | None = None
    title: str = ''

    def method(self, name: str) -> Method:
        """The method of this name."""
        return next(method for method in self.methods if method.name == name)

    def origin(self, method: Method) -> str:
        """The method whose training a method's networks begin with: mostly itself."""
        trained = self.method(method.weights_of or method.name)
        return trained.starts_from or trained.name

    def pairs(self) -> list[tuple[Method, Method]]:
        """The methods to compare, each with one before it or with the baseline."""
        if self.baseline is None:
            return [(first, second) for second, first in combinations(self.methods, 2)]
        baseline = self.method(self.baseline)
        return [(method, baseline) for method in self.methods if method is not baseline]


def read_suite(path: str | Path, data_root: str | None = None, options: Mapping[str, Any] | None = None) -> Suite:
    """Read and check a suite, a Python file that assigns the attributes of ``Suite``.

    Args:
        path: the file.
        data_root: takes the place of the suite's.
        options: added to the suite's, and stronger.

    Raises:
        MissingFile: if the suite or a method's config is missing.
        Mistake: if something else is named than suites have, a name repeats, ``weights_of`` names no method that
            is trained, ``starts_from`` none that is trained from the beginning, ``baseline`` no method, or
            ``may_differ`` what is not about training.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f'{path}: no such suite; those that come with mmskin are in suites/')
    settings = Config.fromfile(str(path)).to_dict()
    check_names(settings, Suite, path)
    for entry in settings.get('methods', ()):
        check_names(entry, Method, path)
    methods = tuple(Method(**{**entry, 'config': path.parent / entry['config']}) for entry in settings['methods'])
    check_methods(methods, path)
    if settings.get('baseline') not in (None, *(method.name for method in methods)):
        raise Mistake(f'{path}: baseline={settings["baseline"]!r} is no method; name one, or leave it out.')
    if strange := [seed for seed in settings['seeds'] if type(seed) is not int]:
        raise Mistake(f'{path}: seeds has {strange[0]!r}; give whole numbers.')
    check_may_differ(settings.get('may_differ', ()), path)
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
        raise Mistake(
            f'{path}: {", ".join(sorted(wrong)) or "something"} of a {kind.__name__.lower()} is unknown, missing or '
            f'empty; it needs {", ".join(sorted(needed))}, and may have {", ".join(sorted(known - needed))}.'
        )
    for names, types, kinds in KINDS:
        for name in names & settings.keys():
            if not isinstance(settings[name], types):
                raise Mistake(f'{path}: {name}={settings[name]!r}; give {kinds}.')


def check_methods(methods: tuple[Method, ...], path: Path) -> None:
    """Raise if a config is missing, a name repeats, or a method needs networks that no other trains."""
    if len({method.folder for method in methods}) < len(methods):
        raise Mistake(f'{path}: methods need names that differ: {", ".join(method.name for method in methods)}.')
    for method in methods:
        check_name(method.folder, f'{path}: the folder of the method {method.name!r},')
    trained = [method.name for method in methods if method.weights_of is None]
    first = [method.name for method in methods if method.weights_of is None and method.starts_from is None]
    for method in methods:
        if not method.config.is_file():
            raise MissingFile(f'{method.config}: no such config; {path} names it for {method.name!r}.')
        if method.weights_of and method.weights_of not in trained:
            raise Mistake(f'{path}: {method.name!r} has weights_of={method.weights_of!r}; trained are {trained}.')
        if method.starts_from and (method.weights_of or method.starts_from not in first):
            raise Mistake(
                f'{path}: {method.name!r} has starts_from={method.starts_from!r}; it can be one of {first}, for a '
                'method without weights_of.'
            )


def check_may_differ(names: Sequence[str], path: Path) -> None:
    """Raise if methods may differ in more than their training data."""
    if wrong := sorted({*names} - {*OF_TRAINING}):
        raise Mistake(
            f'{path}: may_differ has {wrong}; it can have {OF_TRAINING}: methods that are tested on other data or in '
            'other ways cannot be compared.'
        )
