"""Score predictions under every convention that papers use, and say which of their tables cannot be compared.

mmskin predict DATA/ISIC-2017_Validation_Data --out-dir out --probabilities
mmskin score out --data-root DATA --split val
mmskin score out --data-root DATA --split val --compare TransFuse EGE-UNet
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a scoring is told on the command line."""
    parser.add_argument(
        'predictions',
        nargs='+',
        help='folder that mmskin predict wrote, or of masks; of several, the best, too',
    )
    parser.add_argument('--data-root', help='folder with ISIC-2017 in its official layout')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='test', help='its part (test)')
    parser.add_argument('--masks', help='folder of true masks, <image id>_segmentation.png, in place of the split')
    parser.add_argument('--labels', help='table of true diagnoses, as the challenge has it, in place of the split')
    parser.add_argument(
        '--compare', nargs=2, metavar='PAPER', help='say whether tables of these two can be compared, and no more'
    )


def run(args: argparse.Namespace) -> None:
    """Print the tables, or the comparison."""
    from pathlib import Path

    from mmskin.datasets.isic2017 import SPLITS
    from mmskin.errors import Mistake
    from mmskin.evaluation.conventions import compare, read_predictions, score_tables

    masks, labels = args.masks, args.labels
    if args.data_root:
        truth = Path(args.data_root, SPLITS[args.split])
        masks, labels = masks or f'{truth}_Part1_GroundTruth', labels or f'{truth}_Part3_GroundTruth.csv'
    if not masks and not labels:
        raise Mistake('name the ground truth: --data-root with --split, --masks or --labels')
    sets = [read_predictions(folder, masks, labels) for folder in args.predictions]
    if args.compare:
        first, second = args.compare
        print(compare(first, second, sets[0]))
    else:
        print(score_tables(sets), end='')
