"""Compare two tests of the same images: each metric, the difference, and its interval over images.

    python tools/compare_tests.py work_dirs/ours work_dirs/theirs

Intervals are for these two networks on other images; another training may differ by more. ``mmskin benchmark`` trains
over seeds and folds.
"""

import argparse
import sys

from mmskin.cli import run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('first', help="a test's folder, with results.json and per_image.csv")
    parser.add_argument('second', help='another, which is subtracted')


def run(args: argparse.Namespace) -> None:
    """Read both, and print the table."""
    from pathlib import Path

    from mmskin.benchmark.comparison import paired_table
    from mmskin.evaluation.per_image import RESULTS, PerImageTable
    from mmskin.files import read_note

    first = PerImageTable.read(args.first)
    second = PerImageTable.read(args.second).aligned(first.image_ids)
    metrics = [name for name, value in read_note(Path(args.first, RESULTS)).items() if not isinstance(value, dict)]
    print(f'{len(first)} images')
    print(paired_table([(first, second)], metrics, ('first', 'second')))


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
