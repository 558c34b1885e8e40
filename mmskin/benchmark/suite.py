"""A suite: which methods are compared, with which seeds, on which data."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import combinations
from pathlib import Path
from typing import Any

from mmskin.benchmark.fingerprint import OF_TRAINING
from mmskin.config import read_config
from mmskin.errors import MissingFile, Mistake, refusals
from mmskin.files import check_name
from mmskin.registry import is_of

KINDS: list[tuple[set[str], Any, str]] = [
    ({'methods'}, Sequence[Mapping[str, Any]], 'a list of dicts'),
    ({'seeds'}, Sequence[int], 'a list of whole numbers'),
    ({'metrics', 'may_differ'}, Sequence[str], 'a list of texts'),
    ({'splits'}, Sequence[str] | None, 'a list of texts'),
    ({'groups'}, str | Mapping[str, str] | Sequence[str | Mapping[str, str]], 'a table, or a list of tables'),
    ({'options', 'power'}, Mapping[str, Any], 'a dict'),
    ({'paper', 'margins', 'sd', 'seed_sd', 'difference'}, Mapping[str, float], 'a dict with numbers'),
    ({'name', 'config', 'title', 'note'}, str, 'a text'),
    ({'weights_of', 'starts_from', 'baseline', 'data_root'}, str | None, 'a text'),
    ({'count', 'seed'}, int, 'a whole number'),
    ({'churn'}, float | None, 'a number'),
]
NOT_NEGATIVE = {'margins', 'sd', 'seed_sd', 'difference', 'churn'}


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        name: as the table has it.
        config: the Python config, relative to the suite's file.
        options: settings by dotted name that differ from the config.
        weights_of: the name of a method whose networks are tested here in another way, such as with test-time
            augmentation; nothing is trained then.
        starts_from: the name of a method from whose network, of the same seed and fold, training starts, so that
            several methods can share what is the same in all of them. That one may start from another's, too.
        paper: the paper's numbers by metric, printed next to ours.
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
class Folds:
    """Cross-validation: every image is held out once, by a network that has not seen its group.

    Attributes:
        count: how many folds.
        splits: those whose images are pooled; by default 'train' and 'val' of a data set that has splits, and all
            images of one that has none.
        groups: what says which images belong together; see ``assign_folds``. Tables are relative to the data folder.
        seed: another one deals the images in another way.
    """

    count: int
    splits: tuple[str, ...] | None = None
    groups: tuple[str | Mapping[str, str], ...] = ('duplicates',)
    seed: int = 0


@dataclass(frozen=True)
class Assumptions:
    """What ``--power`` goes by where there are no runs to estimate from.

    Attributes:
        churn: the share of images on which two seeds of one method disagree about the class.
        sd: by metric: the standard deviation over images of the difference between two seeds of one method; of a metric
            that is no mean over images, the standard error of that difference times the root of the number of images.
        seed_sd: by metric: how much networks of one method differ by their seed alone, as a standard deviation.
        difference: by metric: the difference whose chance to be found is given.
    """

    churn: float | None = None
    sd: Mapping[str, float] = field(default_factory=dict)
    seed_sd: Mapping[str, float] = field(default_factory=dict)
    difference: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """Methods times seeds, times folds if it has any.

    Attributes:
        name: the name of the suite's file.
        methods: at least one.
        seeds: each method is trained once with each, in each fold.
        metrics: the table's columns, as keys of ``results.json``.
        data_root: the data folder of all methods, in place of their configs'.
        options: settings by dotted name for all methods; a method's own win.
        may_differ: which fingerprints of the training data may differ between methods: 'train images', 'train cls' (the
            labels) and 'train seg' (the masks), where additional training data is compared; printed with the table.
            How methods are tested may not differ.
        baseline: the method that all others are compared with; by default any two are compared.
        title: the table's heading.
        folds: cross-validation in place of the configs' splits.
        margins: by metric: differences up to this one do not matter, so that "equivalent" can be a verdict.
        power: what ``--power`` assumes.
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
    folds: Folds | None = None
    margins: Mapping[str, float] = field(default_factory=dict)
    power: Assumptions = Assumptions()

    @property
    def fold_numbers(self) -> list[int | None]:
        """0 and on; None alone without cross-validation."""
        return [None] if self.folds is None else [*range(self.folds.count)]

    def method(self, name: str) -> Method:
        """The method of this name."""
        return next(method for method in self.methods if method.name == name)

    def origin(self, method: Method) -> str:
        """The method whose training a method's networks begin with: mostly itself."""
        trained = self.method(method.weights_of or method.name)
        return self.origin(self.method(trained.starts_from)) if trained.starts_from else trained.name

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
            is trained, ``starts_from`` none that is trained from the beginning, ``baseline`` no method, ``may_differ``
            what is not about training, or ``margins`` or a method's ``paper`` no metric.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFile(f'{path}: no such suite; those that come with mmskin are in suites/')
    settings = read_config(path).to_dict()
    with refusals(str(path)):
        _check_names(settings, Suite, path)
        for entry in settings['methods']:
            _check_names(entry, Method, path)
        methods = tuple(Method(**{**entry, 'config': path.parent / entry['config']}) for entry in settings['methods'])
        _check_methods(methods, path)
        if settings.get('baseline') not in (None, *(method.name for method in methods)):
            raise Mistake(f'{path}: baseline={settings["baseline"]!r} is not a method; name one, or leave it out')
        for key in ('seeds', 'metrics'):
            if len({*settings[key]}) < len(settings[key]):
                raise Mistake(f'{path}: {key}={settings[key]} has an entry twice; keep it once')
        if wrong := sorted({*settings.get('may_differ', ())} - {*OF_TRAINING}):
            raise Mistake(
                f'{path}: may_differ has {wrong}; it can have {OF_TRAINING}: methods that are tested on other data or '
                'in other ways cannot be compared'
            )
        power = settings.get('power', {})
        _check_names(power, Assumptions, path)
        by_metric = {'margins': settings.get('margins', {})}
        by_metric |= {key: power.get(key, {}) for key in ('sd', 'seed_sd', 'difference')}
        by_metric |= {f'paper of {method.name!r}': method.paper for method in methods}
        for key, table in by_metric.items():
            if wrong := sorted({*table} - {*settings['metrics']}):
                raise Mistake(f'{path}: {key} has {wrong}; the metrics are {", ".join(settings["metrics"])}')
        settings |= {key: tuple(settings.get(key, ())) for key in ('seeds', 'metrics', 'may_differ')}
        settings['options'] = {**settings.get('options', {}), **(options or {})}
        settings['data_root'] = data_root or settings.get('data_root')
        if settings.get('folds') is not None:
            folds = settings['folds'] if isinstance(settings['folds'], dict) else {'count': settings['folds']}
            _check_names(folds, Folds, path)
            if folds['count'] < 2:
                raise Mistake(f'{path}: folds={folds["count"]}; give 2 or more, or leave it out')
            groups, splits = folds.get('groups', ('duplicates',)), folds.get('splits')
            groups = (groups,) if isinstance(groups, (str, dict)) else tuple(groups)
            settings['folds'] = Folds(**{**folds, 'groups': groups, 'splits': splits and tuple(splits)})
        return Suite(**{**settings, 'name': path.stem, 'methods': methods, 'power': Assumptions(**power)})


NEEDED = {Suite: {'methods', 'seeds', 'metrics'}, Method: {'name', 'config'}, Folds: {'count'}, Assumptions: set()}


def _check_names(settings: dict, kind: type, path: Path) -> None:
    """Raise unless ``settings`` has names that ``kind`` knows, and those it needs, with values of their kinds."""
    known, needed = {entry.name for entry in fields(kind)}, NEEDED[kind]
    unknown, lacking = {*settings} - known, {name for name in needed if not settings.get(name)}
    if unknown or lacking:
        listed = ', '.join(sorted(map(str, unknown or lacking)))
        raise Mistake(
            f'{path}: {listed} of {kind.__name__} {"is unknown" if unknown else "is missing or empty"}; it needs '
            f'{", ".join(sorted(needed)) or "nothing"}, and may have {", ".join(sorted(known - needed))}'
        )
    for names, wanted, kinds in KINDS:
        for name in sorted(names & settings.keys()):
            if not is_of(settings[name], wanted):
                raise Mistake(f'{path}: {name}={settings[name]!r}; give {kinds}')
    for name in sorted(NOT_NEGATIVE & settings.keys()):
        most = 1 if name == 'churn' else math.inf
        numbers = settings[name].values() if isinstance(settings[name], Mapping) else [settings[name] or 0]
        if not all(0 <= number <= most and math.isfinite(number) for number in numbers):
            raise Mistake(f'{path}: {name}={settings[name]!r}; give {"0 to 1" if most == 1 else "0 or more"}')


def _check_methods(methods: Sequence[Method], path: Path) -> None:
    """Raise if a config is missing, a name repeats, or a method needs networks that no other trains."""
    if len({method.folder for method in methods}) < len(methods):
        raise Mistake(f'{path}: methods need names that differ: {", ".join(method.name for method in methods)}')
    for method in methods:
        check_name(method.folder, f'{path}: the folder of the method {method.name!r},')
    trained = [method.name for method in methods if method.weights_of is None]
    starts = {method.name: method.starts_from for method in methods}
    for method in methods:
        if not method.config.is_file():
            raise MissingFile(f'{method.config}: no such config; {path} names it for {method.name!r}')
        if method.weights_of and method.weights_of not in trained:
            raise Mistake(f'{path}: {method.name!r} has weights_of={method.weights_of!r}; trained are {trained}')
        if method.starts_from and (method.weights_of or method.starts_from not in trained):
            raise Mistake(
                f'{path}: {method.name!r} has starts_from={method.starts_from!r}; it can be one of {trained}, for a '
                'method without weights_of'
            )
        chain = [method.name]
        while before := starts.get(chain[-1]):
            if before in chain:
                raise Mistake(f'{path}: {before!r} starts from itself; let one of {chain} start from no other')
            chain.append(before)
