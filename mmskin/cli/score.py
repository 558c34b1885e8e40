"""Score predictions under every convention that papers use, and say which of their tables cannot be compared.

mmskin predict DATA/ISIC-2017_Validation_Data --out-dir out --probabilities
mmskin score out --data-root DATA --split val
mmskin score out --data-root DATA --split val --compare TransFuse EGE-UNet
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument(
        'predictions',
        nargs='+',
        help='folders that mmskin predict wrote, or folders of masks; with several, also says which is best',
    )
    parser.add_argument('--data-root', help='folder with ISIC-2017 in its official layout')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='test', help='split (test)')
    parser.add_argument('--masks', help='folder of true masks, <image id>_segmentation.png, instead of the split')
    parser.add_argument(
        '--labels', help='table of true diagnoses, in the format of the challenge, instead of the split'
    )
    parser.add_argument(
        '--compare', nargs=2, metavar='PAPER', help='only say whether tables of these two papers can be compared'
    )


def run(args: argparse.Namespace) -> None:
    """Print the tables, or the comparison."""
    from pathlib import Path

    from mmskin.datasets.isic2017 import SPLITS
    from mmskin.errors import Mistake
    from mmskin.evaluation.conventions import compare, read_predictions, score_tables

    if args.compare and len(args.predictions) > 1:
        raise Mistake(f'--compare judges by one folder of predictions; leave {args.predictions[1]} out')
    masks, labels = args.masks, args.labels
    if args.data_root:
        truth = Path(args.data_root, SPLITS[args.split])
        masks, labels = masks or f'{truth}_Part1_GroundTruth', labels or f'{truth}_Part3_GroundTruth.csv'
    if not masks and not labels:
        raise Mistake('name the ground truth: --data-root with --split, --masks or --labels')
    sets = [read_predictions(folder, masks, labels) for folder in args.predictions]
    for found in sets:
        if (args.masks and not found.outlines) or (args.labels and not found.diagnoses):
            option, lacking = ('--labels', 'predictions.csv') if found.outlines else ('--masks', 'masks')
            raise Mistake(f'{found.name}: has no {lacking} for {option} to judge; leave that out, or add them')
    if args.compare:
        first, second = args.compare
        print(compare(first, second, sets[0]))
    else:
        print(score_tables(sets), end='')
