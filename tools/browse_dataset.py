"""Draw what the network sees after augmentation: python tools/browse_dataset.py configs/fpm/lite0_isic2017.py.

Each image stands beside what the pipeline makes of it in the first epochs, with the mask's outline and the diagnosis.
"""

import argparse
import sys

from mmskin.cli import run_tool
from mmskin.config import SettingsAction, load_config
from mmskin.datasets.browse import browse_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the tool is told on the command line."""
    parser.add_argument('config', help='Python config')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='whose loader')
    parser.add_argument('--count', type=int, default=16, help='images, taken evenly from the whole split')
    parser.add_argument('--views', type=int, default=3, help='epochs, of which each image is shown')
    parser.add_argument('--out', default='sheet.png', help='the picture; PDF and SVG by their suffixes')
    parser.add_argument('--data-root', help="data folder, in place of the config's")
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction, help='other settings, as for tools/train.py')


def run(args: argparse.Namespace) -> None:
    """Draw the sheet."""
    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options)
    ids = browse_dataset(cfg, args.split, args.count, args.views, args.out)
    print(f'{len(ids)} images of split {args.split}: {args.out}')


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
