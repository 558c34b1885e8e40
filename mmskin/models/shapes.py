"""Whether parts of a network give the shapes that they have to: a wrong one may fit by broadcasting, unnoticed."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmskin.errors import Mistake


def of_shape(output: Any, part: Any, *shape: int | str, broadcasts: bool = False) -> Tensor:
    """What ``part`` has given, if that is a tensor of ``shape``.

    Args:
        output: What it has given.
        part: Anything of the class that the error names.
        shape: The length of each axis; any, where it is a letter.
        broadcasts: Whether every axis but the first may be 1 instead.
    """
    if not isinstance(output, Tensor):
        raise Mistake(f'{type(part).__name__} returns a {type(output).__name__}; return a tensor of {listed(shape)}')
    given = output.shape
    pairs = zip(given, shape, strict=False)
    fits = (
        isinstance(size, str) or length == size or (broadcasts and axis and length == 1)
        for axis, (length, size) in enumerate(pairs)
    )
    if len(given) == len(shape) and all(fits):
        return output
    also = ', where any but the first may be 1' if broadcasts else ''
    raise Mistake(f'{type(part).__name__} returns {listed(given)}; return {listed(shape)}{also}')


def of_losses(given: Any, part: Any, name: str) -> Mapping[str, Tensor]:
    """What ``part`` has given as the losses of ``name``, if each is a tensor; others may be anything."""
    if not isinstance(given, Mapping):
        raise Mistake(f'{type(part).__name__} gives {given!r} as {name}; give a dict of tensors')
    for key, value in given.items():
        if 'loss' in key and not isinstance(value, Tensor):
            raise Mistake(f'{type(part).__name__} gives {value!r} as {key} of {name}; give a tensor')
    return given


def listed(shape: Any) -> str:
    """A shape in words."""
    return f'({", ".join(map(str, shape))})' if shape else 'a scalar'
