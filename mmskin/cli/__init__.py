"""The command ``mmskin``: each module of this package is a subcommand of its name.

A subcommand has a docstring, whose first line is its help, ``add_arguments(parser)`` and ``run(args)``, which returns
the exit status or None for 0. Only the one that is called sets up its arguments and imports what it needs, inside these
functions: ``mmskin --help`` answers at once.
"""

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import mmskin
from mmskin.program import answer, help_of, layout


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
            subparser = subparsers.add_parser(name, help=help_of(command).partition('\n')[0], **layout(command))
            if name in arguments[:1]:
                command.add_arguments(subparser)
                subparser.set_defaults(run=command.run, arguments=arguments[1:])
        return parser.parse_args(arguments)

    return answer(parse, ' '.join(['mmskin', *arguments[:1]]))
