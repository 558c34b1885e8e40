"""Draw what the network sees after augmentation: python tools/browse_dataset.py configs/fpm/lite0_isic2017.py.

Next to each image are its augmented versions of the first epochs, with the mask's outline and the diagnosis.
"""

import argparse
import sys

from mmskin.config import load_config
from mmskin.datasets.browse import browse_dataset
from mmskin.program import add_settings, run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('config', help='Python config')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='train', help='split to draw')
    parser.add_argument('--count', type=int, default=16, help='number of images, spread evenly over the split')
    parser.add_argument('--views', type=int, default=3, help='augmented versions of each image, one an epoch')
    parser.add_argument('--out', default='sheet.png', help='file to write: PNG, PDF or SVG, by its suffix')
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    add_settings(parser, what='other settings, as for tools/train.py')


def run(args: argparse.Namespace) -> None:
    """Draw the sheet."""
    cfg = load_config(args.config, data_root=args.data_root, options=args.cfg_options)
    ids = browse_dataset(cfg, args.split, args.count, args.views, args.out)
    print(f'{len(ids)} images of split {args.split}: {args.out}')


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
