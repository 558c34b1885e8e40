"""Options for single parameters of a network, checked before an optimizer takes them."""

import difflib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from mmskin.errors import Mistake
from mmskin.models.watch import unwrap
from mmskin.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
CHOICES: dict[str, Callable[[nn.Module, str, nn.Parameter], bool]] = {  # by layer, parameter's whole name, parameter
    'bias_lr_mult': lambda layer, name, _: name.endswith('bias') and not isinstance(layer, NORMS),
    'bias_decay_mult': lambda layer, name, _: name.endswith('bias') and not isinstance(layer, NORMS),
    'norm_decay_mult': lambda layer, *_: isinstance(layer, NORMS),
    'dwconv_decay_mult': lambda layer, *_: isinstance(layer, nn.Conv2d) and layer.in_channels == layer.groups,
    'flat_decay_mult': lambda _, __, parameter: parameter.ndim == 1,
    'dcn_offset_lr_mult': lambda _, name, __: 'conv_offset' in name,
}
SWITCHES = ('bypass_duplicate', 'custom_keys')
MULTIPLIERS = ('lr_mult', 'decay_mult')
MISSING = object()


def check_paramwise(optim_wrapper: Any, model: nn.Module) -> None:
    """Make sure that each option of ``optim_wrapper.paramwise_cfg`` is known, and is for some parameter of ``model``.

    A key of ``custom_keys`` may also name a part that the network lacks, such as ``passing.``; and parameters
    that are fixed in this stage. Other constructors than mmengine's default have options of their own.
    """
    options = optim_wrapper.get('paramwise_cfg') if isinstance(optim_wrapper, Mapping) else None
    constructor = optim_wrapper.get('constructor') if isinstance(optim_wrapper, Mapping) else None
    default = constructor is None or OPTIM_WRAPPER_CONSTRUCTORS.get(constructor) is DefaultOptimWrapperConstructor
    if not options or not isinstance(options, Mapping) or not default:
        return
    model = unwrap(model)
    where = 'optim_wrapper.paramwise_cfg'
    layers = [
        (layer, f'{prefix}.{name}' if prefix else name, parameter)
        for prefix, layer in model.named_modules()
        for name, parameter in layer.named_parameters(recurse=False)
    ]
    for name, value in options.items():
        if name not in (*CHOICES, *SWITCHES):
            raise Mistake(f'{where}.{name}: no such option; {hint(name, [*CHOICES, *SWITCHES])}')
        if name in CHOICES and not any(CHOICES[name](*layer) for layer in layers):
            raise Mistake(f'{where}.{name}={value}: matches no parameter of this network; leave it out')
    refuse_no_numbers(where, {name: value for name, value in options.items() if name in CHOICES})
    keys = options.get('custom_keys') or {}
    if not isinstance(keys, Mapping):
        raise Mistake(f'{where}.custom_keys={keys!r}: give a dict of dicts, as dict(backbone=dict(lr_mult=0.1))')
    optimizer = optim_wrapper.get('optimizer') or {}
    if 'type' not in optimizer:
        return  # which is said as the optimizer is built
    kind = OPTIMIZERS.get(optimizer['type'])
    known = [*MULTIPLIERS, *inspect.signature(kind).parameters]
    names = [name for _, name, _ in layers]
    for key, own in keys.items():
        part: Any = model
        for name in key.strip('.').split('.'):
            part = getattr(part, name, MISSING)
        is_part = part is None or isinstance(part, nn.Module)  # be it empty or left out
        if not is_part and not any(key in name or key in f'.{name}' for name in names):
            raise Mistake(f'{where}.custom_keys: {key!r} matches no parameter; {hint(key, [*paths(names)])}')
        if not isinstance(own, Mapping):
            raise Mistake(f'{where}.custom_keys: {key!r} is {own!r}; give a dict, as dict(lr_mult=0.1)')
        for option in own:
            if option not in known:
                raise Mistake(f'{where}.custom_keys: {key!r} has no option {option!r}; {hint(option, known)}')
        values = {f'custom_keys.{key}.{name}': own[name] for name in MULTIPLIERS if name in own}
        refuse_no_numbers(where, values)


def refuse_no_numbers(where: str, values: Mapping[str, Any]) -> None:
    """Raise a ``Mistake`` at a factor that is no number of 0 or more."""
    for name, value in values.items():
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise Mistake(f'{where}.{name}={value!r}: give a number from 0')


def paths(names: list[str]) -> Iterator[str]:
    """All that a key could have meant: the beginnings of parameters' names, and each of their words."""
    for name in names:
        words = name.split('.')
        yield from words
        yield from ('.'.join(words[:count]) for count in range(1, len(words) + 1))


def hint(word: str, known: list[str]) -> str:
    """Near matches, or what there is."""
    near = difflib.get_close_matches(word, [*dict.fromkeys(known)], n=3)
    return f'did you mean {" or ".join(near)}?' if near else f'there are {", ".join([*dict.fromkeys(known)][:12])}'
