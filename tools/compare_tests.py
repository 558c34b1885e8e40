"""Compare two tests of the same images: each metric, the difference, and its interval over images; calibration.

    python tools/compare_tests.py work_dirs/ours work_dirs/theirs

A test may be cross-validated. What averaging with a network that was trained apart does to the diagnosis:

    python tools/compare_tests.py none/seed0 none/seed0 --average-with start/seed1    # in results/passing

Intervals are for these networks on other images; another training may differ by more. ``mmskin benchmark`` trains over
seeds and folds.
"""

import argparse
import sys

from mmskin.errors import Mistake
from mmskin.program import run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('first', help="a test's folder, with results.json and per_image.csv, or one of its folds")
    parser.add_argument('second', help='another, which is subtracted')
    parser.add_argument(
        '--average-with', nargs='+', default=(), metavar='TEST', help='whose diagnoses the first is averaged with'
    )
    parser.add_argument(
        '--undo-class-weight',
        nargs='+',
        type=float,
        metavar='WEIGHT',
        help="divide the first's probabilities by the loss's class weights, as Classification(undo_class_weight=...)",
    )


def run(args: argparse.Namespace) -> None:
    """Read the tests, and print the table."""
    from pathlib import Path

    import numpy as np

    from mmskin.benchmark.collect import join, read_record, tested_folds
    from mmskin.benchmark.comparison import check_same_truth, paired_table
    from mmskin.evaluation.per_image import RESULTS, PerImageTable
    from mmskin.files import read_note
    from mmskin.report.calibration import fit_temperature
    from mmskin.report.figures import bin_confidences

    def read(test: str) -> PerImageTable:
        folds = sorted(Path(test).glob('fold*'))
        return join([read_record(fold) for fold in folds]) if folds else read_record(test)

    first = read(args.first)
    second = read(args.second).aligned(first.image_ids)
    others = [read(test).aligned(first.image_ids) for test in args.average_with]
    for test, table in zip((args.first, *args.average_with), (first, *others), strict=True):
        check_same_truth(first, table)
        if others and not table.classes:
            raise Mistake(f'{test}: has no diagnoses to average; name a test of a network that classifies')
    if others:
        first = first.with_scores(np.mean([table.scores for table in (first, *others)], axis=0))
    if args.undo_class_weight:
        if len(args.undo_class_weight) != len(first.classes) or min(args.undo_class_weight) <= 0:
            raise Mistake(f'--undo-class-weight: give a number > 0 for each of the classes: {", ".join(first.classes)}')
        scores = first.scores / args.undo_class_weight
        first = first.with_scores(scores / scores.sum(axis=1, keepdims=True))
    folds = sorted(Path(args.first).glob('fold*'))
    note = read_note(Path(folds[0] if folds else args.first, RESULTS))
    metrics = [name for name, value in note.items() if not isinstance(value, dict)]
    groups = None
    if folds:
        placed = tested_folds(Path(args.first).parent.parent / 'folds.csv', first.image_ids, folds)
        groups = np.unique([placed[image_id][1] for image_id in first.image_ids], return_inverse=True)[1]
    print(f'{len(first)} images' + (f' in {len(folds)} folds' if folds else ''))
    print(paired_table([(first, second)], metrics, ('first', 'second'), groups))
    for name, table in (('first', first), ('second', second)):
        if not table.classes:
            continue
        known = ~np.isnan(table.labels) & ~np.isnan(table.scores).any(axis=1)
        if known.any():
            scores, labels = table.scores[known], table.labels[known]
            error = bin_confidences(scores, labels).calibration_error
            print(
                f'{name}: expected calibration error {error:.3f}; the temperature that makes these images most '
                f'likely is {fit_temperature(scores, labels):.2f} (1 changes nothing)'
            )


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
