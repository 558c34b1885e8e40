"""A module as a program: its arguments, its exit status, and a user's mistakes in one line.

Such a module has a docstring, which is its help, ``add_arguments(parser)`` and ``run(args)``, which returns the exit
status or None for 0: the subcommands of ``mmskin``, the scripts in ``tools``, and what ``python -m`` runs.
"""

import argparse
import errno
import inspect
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from types import ModuleType

from mmskin.errors import FULL, Mistake, in_one_line

OF_DISKS = (*FULL, errno.EIO, errno.EROFS)  # said of no file in particular


def run_tool(command: ModuleType) -> int:
    """Run a module with the process's arguments; its exit status."""
    parser = argparse.ArgumentParser(**layout(command))

    def parse() -> argparse.Namespace:
        command.add_arguments(parser)
        return parser.parse_args(namespace=argparse.Namespace(run=command.run, arguments=sys.argv[1:]))

    return answer(parse, parser.prog)


def answer(parse: Callable[[], argparse.Namespace], name: str) -> int:
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


def add_settings(parser: argparse.ArgumentParser, such_as: str = '', what: str = 'other settings') -> None:
    """The argument that changes settings of a config."""
    from mmskin.config import SettingsAction

    text = f'{what}, such as {such_as}' if such_as else what
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, help=text)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """The arguments of the launcher scripts in ``tools``."""
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='set by the launcher scripts'
    )
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def layout(command: ModuleType) -> dict:
    """What an argument parser of a module is made with."""
    return dict(description=help_of(command), formatter_class=argparse.RawDescriptionHelpFormatter)


def help_of(command: ModuleType) -> str:
    """A module's docstring."""
    text = inspect.getdoc(command)
    assert text, f'{command.__name__} has no docstring, which would be its help'
    return text
