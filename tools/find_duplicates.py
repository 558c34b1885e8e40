"""List images that two splits share, exactly or nearly: python tools/find_duplicates.py data/isic2017."""

import argparse
import math
import sys
from collections.abc import Sequence

from matplotlib.figure import Figure

from mmskin.datasets.duplicates import THRESHOLD, Pair, find_pairs, read_splits
from mmskin.drawing import read_thumbnail, save_figure
from mmskin.files import refuse_replacing, write_csv
from mmskin.program import run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('data_root', help='data folder in the official layout')
    parser.add_argument('--splits', nargs='+', choices=['train', 'val', 'test'], help='by default all that exist')
    parser.add_argument('--threshold', type=float, default=THRESHOLD, help=f'largest distance, {THRESHOLD} by default')
    parser.add_argument('--out', default='duplicates.csv', help='file for the list of pairs')
    parser.add_argument('--sheet', help='file for a picture of the pairs, e.g. duplicates.png')


def run(args: argparse.Namespace) -> None:
    """Read the splits, and print and write what they share."""
    for path in filter(None, (args.out, args.sheet)):
        refuse_replacing(path, args.data_root)
    pairs = find_pairs(read_splits(args.data_root, args.splits), args.threshold)
    head = ['kind', 'distance', 'split', 'file', 'other_split', 'other_file']
    rows = ([pair.kind, f'{pair.distance:.4f}', *pair.one[:2], *pair.other[:2]] for pair in pairs)
    write_csv(args.out, [head, *rows])
    lines = [
        f'{kind:<5}  {distance:.4f}  {one.split:<5} {one.path.name}  {other.split:<5} {other.path.name}'
        for kind, distance, one, other in pairs
    ]
    for split in dict.fromkeys(pair.one.split for pair in pairs):  # the earlier one gives way
        ids = sorted({pair.one.path.stem for pair in pairs if pair.one.split == split})
        lines += [f'\nto leave these {len(ids)} out of {split}:']
        lines += [f'  --cfg-options "{split}_dataloader.dataset.exclude=[{",".join(ids)}]"']
    print('\n'.join(lines or ['no duplicates']))
    if args.sheet:
        draw_pairs(pairs, args.sheet)


def draw_pairs(pairs: Sequence[Pair], out_file: str, columns: int = 3) -> None:
    """Draw the pairs, ``columns`` in a row, to judge by eye whether they show the same."""
    rows = max(1, math.ceil(len(pairs) / columns))
    figure = Figure(figsize=(4.2 * columns, 2.3 * rows), layout='constrained', dpi=80)
    axes = figure.subplots(rows, 2 * columns, squeeze=False)
    for axis in axes.flat:
        axis.axis('off')
    for pair, left, right in zip(pairs, axes.flat[::2], axes.flat[1::2], strict=False):
        title = f'{pair.kind} {pair.distance:.3f}  {pair.one.path.stem} {pair.other.path.stem}'
        left.set_title(title, fontsize=8, loc='left')
        left.imshow(read_thumbnail(str(pair.one.path)))
        right.imshow(read_thumbnail(str(pair.other.path)))
    save_figure(figure, out_file)


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
