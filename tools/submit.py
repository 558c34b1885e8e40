"""Write a submission to the ISIC-2017 challenge from a checkpoint and the test images.

    python tools/submit.py configs/fpm/lite0_isic2017.py work_dirs/lite0_isic2017 submission --data-root data/isic2017

Several processes: torchrun --nproc_per_node 4 tools/submit.py ... --launcher pytorch. If there is ground truth,
the usual metrics are printed too. Score a submission with tools/score_submission.py.
"""

import argparse
import sys

from mmskin.config import load_config, set_in_datasets, tested_dataset
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.program import add_launcher, add_settings, run_tool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('config', help='Python config')
    parser.add_argument(
        'checkpoint', nargs='+', help='checkpoint file or work folder; several, or a folder of folds, are averaged'
    )
    parser.add_argument('out_dir', help='Part1/, Part1.zip and Part3.csv go here')
    parser.add_argument('--work-dir', help="logs and results.json go here (work_dirs/<config's name>)")
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    parser.add_argument('--split', choices=['train', 'val', 'test'], help="split, instead of the config's")
    parser.add_argument(
        '--tta', action=argparse.BooleanOptionalAction, help='average over views, as tools/test.py does'
    )
    add_settings(parser, what='other settings, as for tools/test.py')
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    """Test with a metric that writes the submission."""
    options = {**({} if args.tta is None else {'tta': args.tta}), **(args.cfg_options or {})}
    cfg = load_config(args.config, args.work_dir, args.data_root, options=options, launcher=args.launcher)
    tested_dataset(cfg)  # raises if there is none
    set_in_datasets(cfg.test_dataloader, 'partial_labels', True)
    if args.split:
        set_in_datasets(cfg.test_dataloader, 'split', args.split)
    metrics = cfg.get('test_evaluator') or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    cfg.test_evaluator = [*metrics, dict(type='ChallengeSubmission', out_dir=args.out_dir)]
    evaluate_checkpoint(cfg, args.checkpoint)


if __name__ == '__main__':
    sys.exit(run_tool(sys.modules[__name__]))
