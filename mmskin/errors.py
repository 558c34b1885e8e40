"""What a user can put right, as exceptions: a command answers them in one line, and any other with a traceback.

Plugins raise them, too: ``raise Mistake(f'window={window} of MyGate: give 1 or more')``.
"""

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType, ModuleType

LIBRARIES = {
    'albumentations',
    'cv2',
    'mmcv',
    'mmengine',
    'mmpretrain',
    'mmseg',
    'numpy',
    'onnx',
    'onnxruntime',
    'onnxscript',
    'openvino',
    'pydantic',
    'sklearn',
    'timm',
    'torch',
    'torchvision',
    'yaml',
}
NO_PLUGINS = LIBRARIES | sys.stdlib_module_names | {'mmskin'}


# What a wrong value in a config makes code raise that takes it apart, such as a list where there should be a dict.
OF_VALUES = (ValueError, RuntimeError, TypeError, AttributeError, LookupError, ArithmeticError)

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says that takes no more


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
    if not text and isinstance(error, AssertionError) and (places := traceback.extract_tb(error.__traceback__)):
        text = f'{(places[-1].line or "").removeprefix("assert ")} does not hold'  # a library's, which says no more
    return ' '.join(text.split()) or type(error).__name__


def near_matches(name: str, known: Sequence[str], otherwise: str) -> str:
    """What to say of a name that is not known: those that look like it, or else ``otherwise``."""
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return f'Near matches: {", ".join(near)}' if near else otherwise


def needs(module: str, extra: str) -> ModuleType:
    """Import a library that comes with an extra of mmskin.

    Raises:
        MissingLibrary: if it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition('.')[0]
        raise MissingLibrary(f"{library} is not installed: pip install '.[{extra}]'", name=library) from error


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let what is imported inside the block do without ``module``, unless somebody has imported that already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


@contextmanager
def executing(what: str) -> Iterator[None]:
    """Turn whatever a user's Python code raises while it is read or imported into a ``Mistake`` with file and line.

    Args:
        what: The file or module, named where no line is to blame.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.errno in FULL and not error.filename:  # of mmengine's copy
            raise Mistake(f'{what}: no room for temporary files ({error.strerror}); name a folder by TMPDIR') from error
        causes: list[BaseException] = [error]  # mmengine wraps what a module raises in another error
        while (cause := causes[0].__context__) and [_home(frame) for frame in _frames(causes[0])][-1:] == ['mmengine']:
            causes.insert(0, cause)
        for cause in causes:
            if isinstance(cause, Mistake):
                raise cause from None
            if place := place_of(cause):
                break
        else:
            cause, place = error, what
        plain = isinstance(cause, SyntaxError | ImportError | OSError) or place == what
        message = getattr(cause, 'msg', None) if isinstance(cause, SyntaxError) else in_one_line(cause)
        raise Mistake(f'{place}: {message if plain else f"{type(cause).__name__}: {message}"}') from error


def place_of(error: BaseException) -> str | None:
    """File and line of the user's code that an error comes from; the file alone of what is no Python at all."""
    frames = _frames(error)
    read = [frame.f_locals.get('filename') for frame in frames if _home(frame) == 'mmengine']  # configs and their bases
    file = next((name for name in reversed(read) if isinstance(name, str) and os.path.isfile(name)), None)
    if isinstance(error, SyntaxError) and error.lineno:
        if error.filename and os.path.isfile(error.filename):
            file = error.filename
        return f'{file}, line {error.lineno}' if file else None
    for frame in reversed(frames):
        code = frame.f_code.co_filename
        if os.path.isfile(code) and _home(frame) not in NO_PLUGINS:
            return f'{code}, line {frame.f_lineno}'
    return file


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _home(frame: FrameType) -> str:
    """The package that a frame's code is of; '' of a config, which is no module."""
    return frame.f_globals.get('__name__', '').partition('.')[0]


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn what libraries raise at the values of a config into a ``Mistake`` about ``what``.

    An error of a plugin, or below one, passes as it is, with its traceback. So does one of ours that no value of a
    config could cause. One of a base class at what a plugin returns names the plugin's class.
    """
    try:
        yield
    except (Mistake, MemoryError):
        raise
    except Exception as error:
        frames = _frames(error)
        homes = [_home(frame) for frame in frames]
        is_plugins = {*homes} - NO_PLUGINS
        is_ours = homes[-1] == 'mmskin' and not isinstance(error, OF_VALUES)
        is_systems = isinstance(error, OSError) and error.errno is not None  # it says itself what it refuses
        if is_plugins or is_ours or is_systems:
            raise
        plain = isinstance(error, ValueError | RuntimeError)
        message = in_one_line(error)
        owners = [type(frame.f_locals.get('self')) for frame in reversed(frames)]
        plugins = [kind.__name__ for kind in owners if kind.__module__.partition('.')[0] not in NO_PLUGINS]
        if plugins and not what.startswith(plugins[0]):
            what = f'{what}: {plugins[0]}'
        raise Mistake(f'{what}: {message if plain else f"{type(error).__name__}: {message}"}') from error
