"""The command ``mmskin``: each module of this package is a subcommand of its name.

A subcommand has a docstring, whose first line is its help, ``add_arguments(parser)`` and ``run(args)``, which returns
the exit status or None for 0. Only the one that is called sets up its arguments and imports what it needs, inside these
functions: ``mmskin --help`` answers at once.
"""

import argparse
import errno
import inspect
import io
import os
import pkgutil
import re
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType

import mmskin
from mmskin.errors import Mistake, in_one_line

__all__ = ['commands', 'main', 'run_tool']

OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # said of no file in particular


def commands() -> dict[str, ModuleType]:
    """The subcommands by name."""
    return {module.name: import_module(f'{__name__}.{module.name}') for module in pkgutil.iter_modules(__path__)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that ``arguments``, by default the process's, name first.

    Returns:
        The exit status: 0 when all went well, 2 when a command could not do what it was told and says why.
    """
    arguments = [*(sys.argv[1:] if arguments is None else arguments)]  # `list` is a subcommand here
    parser = argparse.ArgumentParser(prog='mmskin', description=mmskin.__doc__)
    parser.add_argument('--version', action='version', version=f'mmskin {mmskin.__version__}')
    subparsers = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)

    def parse() -> argparse.Namespace:
        for name, command in commands().items():
            subparser = subparsers.add_parser(name, help=_text(command).partition('\n')[0], **_layout(command))
            if name in arguments[:1]:
                command.add_arguments(subparser)
                subparser.set_defaults(run=command.run, arguments=arguments[1:])
        return parser.parse_args(arguments)

    return _answer(parse, ' '.join(['mmskin', *arguments[:1]]))


def run_tool(command: ModuleType) -> int:
    """Run a subcommand, or a script that is made like one, with the process's arguments."""
    parser = argparse.ArgumentParser(**_layout(command))

    def parse() -> argparse.Namespace:
        command.add_arguments(parser)
        return parser.parse_args(namespace=argparse.Namespace(run=command.run, arguments=sys.argv[1:]))

    return _answer(parse, parser.prog)


def _answer(parse: Callable[[], argparse.Namespace], name: str) -> int:
    """The exit status of a command; a mistake of its user's is answered in one line, a fault has its traceback."""
    warnings.filterwarnings('ignore', module=r'mm(cv|engine|pretrain|seg)\.')  # of which their imports are full
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding lacks, as in names of files, gets backslashes
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        args = parse()
        if '' in args.arguments:
            before = ' '.join(['', *args.arguments[: args.arguments.index('')][-1:]])
            raise Mistake(f'an argument{before and f" after{before}"} is empty; is a variable of the shell not set?')
        if unset := [argument for argument in args.arguments if re.fullmatch('--[a-z-]+=', argument)]:
            raise Mistake(f'nothing comes after {unset[0]}; is a variable of the shell not set?')
        if damaged := [argument for argument in args.arguments if '\0' in argument]:  # no file can be named so
            raise Mistake(f'the argument {damaged[0]!r} has a NUL character in it; leave it out')
        status = args.run(args) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as interrupt:
        print(': '.join([f'{name}: interrupted', *map(str, interrupt.args)]), file=sys.stderr)
        return 128 + signal.SIGINT
    except Mistake as error:
        line = in_one_line(error)
    except OSError as error:
        if not error.filename and error.errno not in OF_DISKS and 'temporary directory' not in str(error):
            raise  # the last is Python's, where nothing can be written to /tmp and the like
        line = f'{error.filename}: {error.strerror}' if error.filename else str(error.strerror)
    except RuntimeError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # which Python wraps where a class is being made
            raise
        print(f'{name}: interrupted', file=sys.stderr)
        return 128 + signal.SIGINT
    print(f'{name}: error: {line}', file=sys.stderr)
    return 2


def _layout(command: ModuleType) -> dict:
    return dict(description=_text(command), formatter_class=argparse.RawDescriptionHelpFormatter)


def _text(command: ModuleType) -> str:
    text = inspect.getdoc(command)
    assert text, f'{command.__name__} has no docstring, which would be its help'
    return text
