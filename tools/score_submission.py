"""Score a submission to the ISIC-2017 challenge: python tools/score_submission.py submission data/isic2017."""

import argparse
import sys

from mmskin.evaluation.submission import score_submission, scores_tables
from mmskin.program import run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('submission', help='folder with Part1/<image id>_segmentation.png, Part3.csv, or both')
    parser.add_argument('data_root', help='folder with the ground truth in the official names')
    parser.add_argument('--split', choices=['train', 'val', 'test'], default='test')


def run(args: argparse.Namespace) -> None:
    """Print the official table of each part that the submission has."""
    print(scores_tables(score_submission(args.submission, args.data_root, args.split)))


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
