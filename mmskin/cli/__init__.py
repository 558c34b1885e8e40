"""The command ``mmskin``: each module of this package is a subcommand of its name.

A subcommand has a docstring, whose first line is its help, ``add_arguments(parser)`` and ``run(args)``, which returns
the exit status or None for 0. Only the one that is called sets up its arguments and imports what it needs, inside these
functions: ``mmskin --help`` answers at once.
"""

import argparse
import dis
import errno
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

import mmskin

__all__ = ['commands', 'main', 'run_tool']

FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk says so of no file in particular


def commands() -> dict[str, ModuleType]:
    """The subcommands by name."""
    return {found.name: import_module(f'{__name__}.{found.name}') for found in pkgutil.iter_modules(__path__)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that ``arguments``, by default the process's, name first.

    Returns:
        The exit status: 0 when all went well, 2 when a command could not do what it was told and says why.
    """
    arguments = [*(sys.argv[1:] if arguments is None else arguments)]  # `list` is a subcommand here
    parser = argparse.ArgumentParser(prog='mmskin', description=mmskin.__doc__)
    parser.add_argument('--version', action='version', version=f'mmskin {mmskin.__version__}')
    subparsers = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name, command in commands().items():
        subparser = subparsers.add_parser(name, help=_first_line(command), **_layout(command))
        if name in arguments[:1]:
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run, arguments=arguments[1:])
    args = parser.parse_args(arguments)
    return _run(args.run, args, f'mmskin {arguments[0]}')


def run_tool(command: ModuleType) -> int:
    """Run a subcommand, or a script that is made like one, with the process's arguments."""
    parser = argparse.ArgumentParser(**_layout(command))
    command.add_arguments(parser)
    args = parser.parse_args(namespace=argparse.Namespace(arguments=sys.argv[1:]))
    return _run(command.run, args, parser.prog)


def _run(run: Callable[[argparse.Namespace], int | None], args: argparse.Namespace, name: str) -> int:
    """The exit status of a command; a mistake of its user's is answered in one line, a fault has its traceback."""
    warnings.filterwarnings('ignore', module=r'mm(cv|engine|pretrain|seg)\.')  # of which their imports are full
    try:
        return run(args) or 0
    except Exception as error:
        if not _is_mistake(error):
            raise
        print(f'{name}: error: {error.args[0] if isinstance(error, KeyError) else error}', file=sys.stderr)
        return 2


def _is_mistake(error: Exception) -> bool:
    """Whether the user can mend it.

    That is what mmskin says by a ``raise`` of its own, what the file system refuses, and an option in a config that its
    part does not have.
    """
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    assert trace is not None, 'it has been raised'
    code, module = trace.tb_frame.f_code.co_code, trace.tb_frame.f_globals.get('__name__', '')
    if isinstance(error, TypeError):
        return module == 'mmengine.registry.build_functions'
    if isinstance(error, OSError) and (error.filename or error.errno in FULL):
        return True
    is_answer = isinstance(error, OSError | ValueError | KeyError | ModuleNotFoundError)
    return is_answer and module.split('.')[0] == 'mmskin' and code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS']


def _first_line(command: ModuleType) -> str:
    return _text(command).partition('\n')[0]


def _layout(command: ModuleType) -> dict:
    return dict(description=_text(command), formatter_class=argparse.RawDescriptionHelpFormatter)


def _text(command: ModuleType) -> str:
    text = inspect.getdoc(command)
    assert text, f'{command.__name__} has no docstring, which would be its help'
    return text
