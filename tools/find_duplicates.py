"""List images that two splits share, exactly or nearly: python tools/find_duplicates.py data/isic2017."""

import argparse
import sys

from mmskin.cli import run_tool
from mmskin.datasets.duplicates import THRESHOLD, draw_pairs, find_pairs, pairs_table, read_splits, write_pairs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('data_root', help='data folder in the official layout')
    parser.add_argument('--splits', nargs='+', choices=['train', 'val', 'test'], help='by default all that exist')
    parser.add_argument('--threshold', type=float, default=THRESHOLD, help=f'largest distance, {THRESHOLD} by default')
    parser.add_argument('--out', default='duplicates.csv', help='file for the list of pairs')
    parser.add_argument('--sheet', help='file for a picture of the pairs, e.g. duplicates.png')


def run(args: argparse.Namespace) -> None:
    """Read the splits, and print and write what they share."""
    pairs = find_pairs(read_splits(args.data_root, args.splits), args.threshold)
    write_pairs(args.out, pairs)
    print(pairs_table(pairs))
    if args.sheet:
        draw_pairs(pairs, args.sheet)


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
