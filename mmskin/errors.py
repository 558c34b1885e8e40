"""What a user can put right, as exceptions: a command answers them in one line, and any other with a traceback.

Plugins raise them, too: ``raise Mistake(f'window={window} of MyGate: give 1 or more')``.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ['Mistake', 'MissingFile', 'MissingLibrary', 'UnknownName', 'in_one_line', 'refusals']

LIBRARIES = {'cv2', 'mmcv', 'mmengine', 'mmpretrain', 'mmseg', 'numpy', 'sklearn', 'timm', 'torch', 'torchvision'}


class Mistake(ValueError):
    """A value, file or setting that cannot be used.

    The message is a sentence that names it and says what to do. An ``assert`` is for our own mistakes.
    """


class MissingFile(Mistake, FileNotFoundError):
    """A file or folder that is not there."""


class MissingLibrary(ModuleNotFoundError, Mistake):
    """A library that is not installed; ``name`` is its module."""


class UnknownName(Mistake, KeyError):
    """A name that nothing is registered under."""

    __str__ = Exception.__str__  # a KeyError quotes its message


def in_one_line(error: BaseException) -> str:
    """The message of an error, without line breaks and without the traceback that a loader's worker puts before it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'Original Traceback (most recent call last)' in text:
        text = text.rpartition(f'{type(error).__name__}: ')[2]
    return ' '.join(text.split()) or type(error).__name__


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what libraries raise at the values of a config into a ``Mistake`` about ``what``.

    An error of ours or of a plugin passes as it is, with its traceback: it was raised in code of ours, or in or below
    a plugin's. Since our code raises a ``Mistake``, a plain ValueError or RuntimeError in it is a library's.
    """
    try:
        yield
    except Mistake:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        homes = [frame.f_globals.get('__name__', '').partition('.')[0] for frame, _ in frames]
        is_plugins = {*homes} - LIBRARIES - sys.stdlib_module_names - {'mmskin'}
        is_ours = homes[-1] == 'mmskin' and not isinstance(error, ValueError | RuntimeError)
        is_systems = isinstance(error, OSError) and error.errno is not None  # it says itself what it refuses
        if is_plugins or is_ours or is_systems:
            raise
        raise Mistake(f'{what}: {in_one_line(error)}') from error
