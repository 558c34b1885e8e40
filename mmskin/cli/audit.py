"""Look for shortcuts: the diagnosis without the lesion, without the background, without ruler or patch, in other light.

mmskin audit lite0_isic2017 --data-root DATA --split val
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('model', help='model folder, the name of one that comes with mmskin, or a config')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or work folder, if the model is a config')
    parser.add_argument('--out-dir', help='table and picture go here (work_dirs/audit)', default='work_dirs/audit')
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    parser.add_argument('--split', choices=['train', 'val', 'test'], help="part of the data, instead of the config's")
    parser.add_argument(
        '--tta', action=argparse.BooleanOptionalAction, default=False, help='average over views, which takes longer'
    )


def run(args: argparse.Namespace) -> None:
    """Audit, and print the table."""
    from pathlib import Path

    from mmskin.explain.audit import audit
    from mmskin.inference.inferencer import LesionInferencer

    Path(args.out_dir).mkdir(parents=True, exist_ok=True)  # before minutes of work that could not be written
    path = audit(LesionInferencer(args.model, args.checkpoint, tta=args.tta), args.out_dir, args.data_root, args.split)
    print(path.read_text(encoding='utf-8'))
    print(f'written: {path.parent}')
