"""The registries of mmskin, children of mmengine's, all in scope ``mmskin``.

Every module of a registry's package is imported at the first look-up of a name that is not registered yet, so a plugin
inside mmskin is one new file.
A plugin outside is imported by its user: ``custom_imports`` in a text config or a plain import in a Python config.
"""

import difflib
import inspect
import logging
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from importlib import import_module
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin
from unittest.mock import patch

from mmengine import registry as upstream
from mmengine.logging import print_log
from mmengine.registry import Registry

from mmskin.errors import Mistake, UnknownName, near_matches, refusals

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'EVALUATOR',
    'FUNCTIONS',
    'HOOKS',
    'LOG_PROCESSORS',
    'LOOPS',
    'METRICS',
    'MODELS',
    'MODEL_WRAPPERS',
    'OPTIMIZERS',
    'OPTIM_WRAPPERS',
    'OPTIM_WRAPPER_CONSTRUCTORS',
    'PARAM_SCHEDULERS',
    'RUNNERS',
    'TRANSFORMS',
    'VISBACKENDS',
    'VISUALIZERS',
    'WEIGHT_INITIALIZERS',
    'PluginRegistry',
    'as_config',
]


P = ParamSpec('P')
R = TypeVar('R')

# Kinds of MODELS' parts without a base class, by the end of their names.
ENDINGS = {
    'Gate': 'gates',
    'Message': 'messages',
    'Op': 'ops',
    'Head': 'heads',
    'Loss': 'losses',
    'Chain': 'backbones',
}


def kind_of(name: str, plugin: Any) -> str:
    """What a part of MODELS is by its name, or else by the folder of ours that it lies in."""
    by_name = next((kind for ending, kind in ENDINGS.items() if name.endswith(ending)), None)
    place = plugin.__module__.removeprefix('mmskin.models.').split('.')
    is_ours = place[0] != 'mmskin' and plugin.__module__.startswith('mmskin')
    return by_name or (place[0] if is_ours else 'other models')


def as_config(part: str | type | Mapping[str, Any], **given: Any) -> dict[str, Any]:
    """The config of a part, also where its name or its class alone stands for one, with what its user hands in."""
    return {**part, **given} if isinstance(part, Mapping) else {'type': part, **given}


def home_scope(kind: str | type, root: Registry) -> str | None:
    """The scope of the package that owns ``kind``, or None for our own, mmengine's and a user's types."""
    path = f'{kind.__module__}.{kind.__qualname__}' if inspect.isclass(kind) else str(kind)
    package = path.split('.')[0] if '.' in path else None
    if package in (None, 'mmskin', 'mmengine'):
        return None
    try:
        return package if package in root.children or find_spec(f'{package}.registry') else None
    except ModuleNotFoundError:  # no such package, or a single file
        return None


def build_at_home(cfg: dict, *args: Any, registry: Registry, **kwargs: Any) -> Any:
    """Build ``cfg`` in the scope of the package that owns its type.

    A foreign head such as ``mmseg.FCNHead`` looks up its own defaults (its loss, its norm layer) in the default scope;
    built in ours it would not find them.
    """
    if isinstance(cfg, dict) and 'type' in cfg:
        scope = home_scope(cfg['type'], registry.root) or 'mmskin'
        if isinstance(cfg['type'], str):
            registry.get(cfg['type'])  # an unknown name is answered here, not by its own package
        cfg = {'_scope_': scope, **cfg}
    return registry.parent.build_func(cfg, *args, registry=registry, **kwargs)


def build_or_say_why(build: Callable, cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
    """Build ``cfg`` by mmengine's ``build``; what makes that impossible is a ``Mistake`` if it lies in the config."""
    if not isinstance(cfg, Mapping) or 'runner_type' in cfg:
        with refusals('config'):
            return build(cfg, *args, registry=registry, **kwargs)
    options = {**(kwargs.get('default_args') or (args[0] if args else None) or {}), **cfg}
    if 'type' not in options:
        raise Mistake(f'a {registry.name} of a config has no type: {described("dict", options)}')
    options.pop('_scope_', None)
    kind = options.pop('type')
    with refusals(described(kind, cfg)):
        maker: Any = kind
        if isinstance(kind, str):
            with registry.switch_scope_and_registry(cfg.get('_scope_')) as home:
                maker = home.get(kind)
        if getattr(maker, '__module__', '').startswith(('mmskin.', 'mmengine.hooks.')):
            refuse_values(maker, options)
        try:
            part = build(cfg, *args, registry=registry, **kwargs)
        except TypeError as error:
            if line := wrong_options(maker, options, str(error)):
                raise Mistake(line) from error
            raise
        if getattr(maker, '__module__', '').startswith('mmskin.'):
            for name, parameter in options_of(maker).items():  # that the part has not refused itself
                value, default = options.get(name), parameter.default
                is_amount = isinstance(default, float) and default > 0  # a weight, a rate, a length or a share
                if is_amount and isinstance(value, int | float) and value < 0:
                    raise Mistake(f'{maker.__name__}({name}={value!r}): give 0 or more')
        return part


def described(kind: str | type, options: Mapping[str, Any]) -> str:
    """A part as its config has it, without what makes the line long."""
    plain = {key: value for key, value in options.items() if key[:1] != '_' and key != 'type'}
    listed = [f'{key}={value!r}' for key, value in plain.items() if isinstance(value, str | int | float | None)]
    return f'{getattr(kind, "__name__", kind)}({", ".join(listed)})'


def options_of(kind: Callable) -> dict[str, inspect.Parameter]:
    """What a part takes by name; a constructor hands its ``**options`` to that of its base."""
    bases = inspect.getmro(kind)[:-1] if inspect.isclass(kind) else []
    makers = [vars(base)['__init__'] for base in bases if '__init__' in vars(base)] or [kind]
    known: dict[str, inspect.Parameter] = {}
    for maker in makers:
        parameters = inspect.signature(maker).parameters
        known = {**parameters, **known}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    catch_all = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {key: known[key] for key in known if key != 'self' and known[key].kind not in catch_all}


def refuse_values(kind: Callable, options: Mapping[str, Any], of_plugin: bool = True) -> None:
    """Raise a ``Mistake`` at an option whose value is not as its annotation says.

    An ``int`` of a plugin is a size or a count, and so at least 1, unless its default is below, as where -1 is all.
    """
    for name, parameter in options_of(kind).items():
        value, wanted = options.get(name), parameter.annotation
        if name not in options or wanted is parameter.empty:
            continue
        kinds = get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)
        if not any(is_of(value, allowed) for allowed in kinds):
            text = getattr(wanted, '__name__', '') if inspect.isclass(wanted) and not get_args(wanted) else str(wanted)
            raise Mistake(f'{kind.__name__}({name}={value!r}): give {text.replace("collections.abc.", "")}')
        is_count = of_plugin and int in kinds and not (isinstance(parameter.default, int) and parameter.default < 1)
        if is_count and isinstance(value, int) and not isinstance(value, bool) and value < 1:
            raise Mistake(f'{kind.__name__}({name}={value!r}): give 1 or more')


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """``function``, which raises a ``Mistake`` at an argument that is not as its annotation says."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        refuse_values(function, signature.bind(*args, **options).arguments, of_plugin=False)
        return function(*args, **options)

    return call


def is_of(value: Any, wanted: Any) -> bool:
    """Whether a value is of a type: of a class, a number, text, a path, a sequence or mapping; True of any other."""
    origin, inner = get_origin(wanted) or wanted, get_args(wanted)
    if origin in (Union, UnionType):
        return any(is_of(value, kind) for kind in inner)
    if origin is Literal:
        return value in inner
    if wanted is None or wanted is NoneType:
        return value is None
    if wanted in (int, float):
        is_number = isinstance(value, Integral if wanted is int else Real) and not isinstance(value, bool)
        return is_number and value - value == 0  # neither nan nor infinite
    if wanted in (str, bool):
        return isinstance(value, wanted)
    if wanted is Path:
        return isinstance(value, str | Path)
    if origin is tuple and inner and inner[-1] is not ...:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(is_of, value, inner))
    if origin in (tuple, list, Sequence):
        is_listed = isinstance(value, Sequence) and not isinstance(value, str)
        return is_listed and all(is_of(item, kind) for item in value for kind in inner[:1])
    if origin in (dict, Mapping):
        keys, values = inner or (Any, Any)
        return isinstance(value, Mapping) and all(is_of(key, keys) and is_of(value[key], values) for key in value)
    if f'{getattr(wanted, "__module__", "")}.{getattr(wanted, "__name__", "")}' == 'torch.device':
        return isinstance(value, str | int | wanted) and not isinstance(value, bool)
    is_class = inspect.isclass(origin) and origin is not Any and not getattr(origin, '_is_protocol', False)
    return isinstance(value, origin) if is_class else True


def wrong_options(kind: Callable, options: Mapping[str, Any], message: str) -> str | None:
    """What to say of options that a part does not have, or lacks, where the TypeError's message quotes one."""
    known = options_of(kind)
    name = getattr(kind, '__name__', str(kind))
    for option in options:
        if 'multiple values' in message and repr(option) in message:
            return f'{name} sets {option!r} itself; leave it out'
    for option in options.keys() - known.keys():
        if repr(option) in message:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f'did you mean {near[0]}?' if near else f'it has {", ".join(known)}'
            return f'{name} has no option {option!r}; {hint}'
    lacking = [key for key in known if key not in options and repr(key) in message and 'required' in message]
    return f'{name} needs the option {lacking[0]!r}' if lacking else None


def print_unless_debug(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
    """MMEngine's ``print_log``, but what is for debugging and for no logger is not printed."""
    if logger is not None or level > logging.DEBUG:
        print_log(msg, logger, level)


class PluginRegistry(Registry):
    """A registry that finds plugins by walking packages, and answers an unknown name with its near matches."""

    _imported: bool

    def __init__(self, parent: Registry, locations: Sequence[str] = ()) -> None:
        super().__init__(
            parent.name, build_func=build_at_home, parent=parent, scope='mmskin', locations=list(locations)
        )
        parent.build_func = partial(
            build_or_say_why, parent.build_func
        )  # by which mmengine builds what is of ours, too

    def build(self, cfg: dict, *args: Any, kind: str | type = '', **kwargs: Any) -> Any:
        """Build ``cfg``; the registry's packages, one of which may say how, are imported before, if they are needed.

        Args:
            cfg: Config of the part.
            args: As mmengine takes them.
            kind: What is wanted: the base class, or where there is none, the kind that ``mmskin list`` has it under.
            kwargs: As mmengine takes them.

        Raises:
            Mistake: if the config is of a part that extends another base, or of one of ours of another kind.
        """
        if not isinstance(cfg, Mapping) or str(cfg.get('type')) not in self.module_dict:  # a list cannot be looked up
            self.import_from_location()
        if kind and isinstance(cfg, Mapping) and 'type' in cfg:
            maker: Any = self.get(cfg['type'])
            if isinstance(kind, str):
                is_ours = getattr(maker, '__module__', '').startswith('mmskin.')
                if is_ours and kind_of(maker.__name__, maker) != kind:
                    named = described(maker, cfg)
                    raise Mistake(f'{named} is not one of the {kind}; name one that "mmskin list {kind}" shows')
            elif inspect.isclass(maker) and not issubclass(maker, kind):
                base = f'{kind.__module__}.{kind.__name__}'
                raise Mistake(f'{maker.__name__} is no {kind.__name__}; name one that extends {base}')
        return super().build(cfg, *args, **kwargs)

    def import_from_location(self) -> None:
        """Import every module of the registry's packages, once."""
        if self._imported:
            return
        for location in self._locations:
            package = import_module(location)
            for module in pkgutil.walk_packages(package.__path__, f'{location}.'):
                import_module(module.name)
        self._imported = True

    def get(self, key: str | type) -> type:
        """Look up ``key`` here, in mmengine's registry, or in another package's by its scope (``mmseg.FCNHead``).

        A class, which a Python config may name in a string's place, is its own answer.

        Raises:
            UnknownName: if nothing is registered under ``key``; the message lists near matches.
        """
        if not isinstance(key, str):
            return key
        if key in self.module_dict:
            return self.module_dict[key]
        try:
            if home_scope(key, self.root):  # another package, whose import prints what it has not found
                with patch('mmengine.logging.print_log', print_unless_debug):
                    kind = super().get(key)
            else:
                kind = super().get(key)
        except RuntimeError:
            kind = None
        if kind is not None:
            return kind
        foreign = [f'{scope}.{name}' for scope, child in self.root.children.items() for name in child.module_dict]
        known = sorted({*self.module_dict, *self.root.module_dict, *foreign})
        there = f'There are: {", ".join(sorted(self.root.module_dict))}'
        ours = f'mmskin registers: {", ".join(self.module_dict)}' if self.module_dict else there
        raise UnknownName(
            f'No {self.name} is registered as {key!r}. {near_matches(key, known, ours)}. A plugin of your own has to '
            'be registered, and imported before it is named: import it in your Python config, or add '
            'custom_imports=dict(imports=["your_module"]).'
        )

    def __contains__(self, key: str) -> bool:
        try:
            return self.get(key) is not None
        except KeyError:
            return False


MODELS = PluginRegistry(upstream.MODELS, ['mmskin.models'])
DATASETS = PluginRegistry(upstream.DATASETS, ['mmskin.datasets'])
TRANSFORMS = PluginRegistry(upstream.TRANSFORMS, ['mmskin.datasets'])
METRICS = PluginRegistry(upstream.METRICS, ['mmskin.evaluation'])
HOOKS = PluginRegistry(upstream.HOOKS, ['mmskin.engine'])
LOOPS = PluginRegistry(upstream.LOOPS, ['mmskin.engine'])
MODEL_WRAPPERS = PluginRegistry(upstream.MODEL_WRAPPERS, ['mmskin.engine'])
OPTIMIZERS = PluginRegistry(upstream.OPTIMIZERS, ['mmskin.engine'])
OPTIM_WRAPPERS = PluginRegistry(upstream.OPTIM_WRAPPERS, ['mmskin.engine'])
RUNNERS = PluginRegistry(upstream.RUNNERS, ['mmskin.engine'])
VISBACKENDS = PluginRegistry(upstream.VISBACKENDS, ['mmskin.engine'])

# Nothing of ours is in these yet; mmengine warns at every build from a registry without a child in the default scope.
DATA_SAMPLERS = PluginRegistry(upstream.DATA_SAMPLERS)
EVALUATOR = PluginRegistry(upstream.EVALUATOR, ['mmskin.evaluation'])
FUNCTIONS = PluginRegistry(upstream.FUNCTIONS)
LOG_PROCESSORS = PluginRegistry(upstream.LOG_PROCESSORS)
OPTIM_WRAPPER_CONSTRUCTORS = PluginRegistry(upstream.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = PluginRegistry(upstream.PARAM_SCHEDULERS)
VISUALIZERS = PluginRegistry(upstream.VISUALIZERS)
WEIGHT_INITIALIZERS = PluginRegistry(upstream.WEIGHT_INITIALIZERS)
