"""Libraries that only some of mmskin needs."""

from importlib import import_module
from types import ModuleType

from mmskin.errors import MissingLibrary

__all__ = ['needs']


def needs(module: str, extra: str) -> ModuleType:
    """Import a library that comes with an extra of mmskin.

    Raises:
        MissingLibrary: if it is not installed; the message says how to.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition('.')[0]
        raise MissingLibrary(f"{library} is not installed: pip install 'mmskin[{extra}]'", name=library) from error
