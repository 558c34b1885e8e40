"""List the models that come with mmskin, those in folders here, and the configs to train others with.

mmskin models
mmskin models my_models

Commands take a model by its name or its folder: mmskin predict --model NAME, mmskin test NAME.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('folder', nargs='?', default='.', help='where to look for model folders (here)')


def run(args: argparse.Namespace) -> None:
    """Print names, sizes, and what each is."""
    import ast
    import json
    from pathlib import Path

    import mmskin
    from mmskin.errors import MissingFile, Mistake
    from mmskin.inference.zoo import local_models, model_folder, shipped_models
    from mmskin.models.weights import read_metadata

    if not Path(args.folder).is_dir():
        raise MissingFile(f'{args.folder}: no such folder')
    where = 'this folder' if args.folder == '.' else args.folder
    for title, names in (
        ('models that come with mmskin', shipped_models()),
        (f'models in {where}', [*map(str, local_models(args.folder))]),
    ):
        print(title)
        for name in names:
            weights = model_folder(name if title.endswith('mmskin') else Path(name).absolute()).weights
            try:
                metadata = read_metadata(weights)
                classes = ', '.join(json.loads(metadata.get('classes', '[]')))
            except Mistake as error:
                print(f'    {name}  {error}')
                continue
            except (ValueError, TypeError, RecursionError):
                print(f'    {name}  {weights}: its classes are not a list of names; publish it again')
                continue
            size, config = f'{weights.stat().st_size / 1e6:.1f} MB', metadata.get('config', 'unknown')
            print(f'    {name}  {size}  trained by {config}{": " if classes else ""}{classes}')
        if not names:
            print('    none')
    configs = Path(mmskin.__file__).parent / 'configs'
    print('configs to train with, by mmskin train configs/...')
    for path in sorted(configs.glob('*/*.py')):
        if not path.parent.name.startswith('_'):
            doc = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
            print(f'    configs/{path.relative_to(configs)}  {doc.partition(chr(10))[0]}')
