"""Test a checkpoint: print the metrics, and write them for each image, with a picture of cases and a report.

mmskin test lite0_isic2017 --data-root DATA
mmskin test configs/fpm/r101_isic2017.py work_dirs/r101_isic2017
"""

import argparse
import logging
from pathlib import Path

from mmskin.program import add_launcher, add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('model', help='model folder, name of a model that comes with mmskin, or a config')
    parser.add_argument(
        'checkpoint',
        nargs='*',
        help='checkpoint file or work folder, if the model is a config; several, or a folder of folds, are averaged',
    )
    parser.add_argument('--work-dir', help='logs, results.json and per_image.csv go here')
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    parser.add_argument('--split', choices=['train', 'val', 'test'], help="part of the data, instead of the config's")
    parser.add_argument(
        '--tta',
        action=argparse.BooleanOptionalAction,
        help="average over flips, or over the views that the config's tta_model names (as the config's tta says)",
    )
    parser.add_argument('--no-report', action='store_true', help='leave out report.html and its figures')
    parser.add_argument('--calibrate-on', metavar='CSV', help='for the report: see mmskin report --help')
    add_settings(parser, 'test_dataloader.batch_size=1')
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    """Test, print the table and write the files and the report."""
    print('loading PyTorch and the network ...', flush=True)
    from mmengine.dist import is_main_process
    from mmengine.logging import print_log

    from mmskin.config import load_config, set_in_datasets, tested_dataset
    from mmskin.engine.evaluate import evaluate_checkpoint
    from mmskin.errors import Mistake
    from mmskin.evaluation.per_image import PerImageTable
    from mmskin.inference.inferencer import model_files
    from mmskin.inference.zoo import config_of
    from mmskin.report.page import write_report

    if args.calibrate_on:
        if args.no_report:
            raise Mistake('--calibrate-on is for the report; leave it or --no-report out')
        PerImageTable.read(Path(args.calibrate_on))  # whether it can be read: before the test, not after

    options = {**({} if args.tta is None else {'tta': args.tta}), **(args.cfg_options or {})}
    weights = args.checkpoint or model_files(args.model, None)[1]
    cfg = load_config(config_of(args.model), args.work_dir, args.data_root, options=options, launcher=args.launcher)
    tested_dataset(cfg)  # whether there is one
    if args.split:
        set_in_datasets(cfg.test_dataloader, 'split', args.split)
    evaluate_checkpoint(cfg, weights)
    if is_main_process() and not args.no_report:
        print('drawing the report ...', flush=True)
        try:
            print(f'The report is {write_report(cfg.work_dir, args.calibrate_on)}')
        except Exception as error:  # the numbers are there, and 'mmskin report' makes the page from them
            if args.calibrate_on and isinstance(error, ValueError):  # its images might be the tested ones
                write_report(cfg.work_dir)
                raise
            text = f'The report failed ({type(error).__name__}: {error}); try again: mmskin report {cfg.work_dir}'
            print_log(text, logger='current', level=logging.WARNING)
