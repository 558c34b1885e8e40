"""List the plugins that a config can name, by kind, each with the paper it is from.

mmskin list
mmskin list gates
mmskin list --import my_package
"""

import argparse
import sys

from mmskin.errors import Mistake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a listing is told on the command line."""
    parser.add_argument('kind', nargs='?', help='such as operators, gates, losses, datasets; all by default')
    parser.add_argument(
        '--import', dest='imports', action='append', default=[], metavar='MODULE', help='with the plugins of your own'
    )


def run(args: argparse.Namespace) -> None:
    """Print kinds, names, first lines and links."""
    from itertools import groupby

    from mmskin.config import import_plugins
    from mmskin.plugins import find_plugins

    sys.path.append('')  # a module of the user's own may lie in the working directory
    import_plugins(args.imports)
    plugins = find_plugins()
    kinds = sorted({plugin.kind for plugin in plugins})
    if args.kind not in (None, *kinds):
        raise Mistake(f'{args.kind} is none of the kinds {", ".join(kinds)}')
    for kind, found in groupby(plugins, lambda plugin: plugin.kind):
        if args.kind in (None, kind):
            print(f'{kind}\n{section([*found])}\n')


def section(plugins: list) -> str:
    """The lines of one kind."""
    width = max(len(plugin.name) for plugin in plugins)
    lines = []
    for plugin in plugins:
        place = '' if plugin.module.startswith('mmskin.') else f' [{plugin.module}]'
        lines.append(f'    {plugin.name:<{width}}  {plugin.summary}{place}')
        if plugin.link not in plugin.summary:
            lines.append(f'    {"":<{width}}  {plugin.link}')
    return '\n'.join(lines)
