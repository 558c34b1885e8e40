"""Export a network to ONNX or OpenVINO, and compare what the file computes with torch.

mmskin export --out lite0.onnx
mmskin export my_model --out my_model.xml
mmskin export configs/fpm/r101_isic2017.py work_dirs/r101_isic2017 --out r101.onnx

Several networks become one file, whose answers are the mean of theirs; so does a suite's folder of folds:

mmskin export --model my_model other_model --out both.onnx
mmskin export configs/fpm/r18_synthetic.py results/suite/gated --out folds.onnx
"""

import argparse

from mmskin.program import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('model', nargs='?', help='model folder, name of a model that comes with mmskin, or config')
    parser.add_argument(
        'checkpoint', nargs='*', help='checkpoint file or work folder, if the model is a config; several are averaged'
    )
    parser.add_argument('--model', nargs='+', dest='models', metavar='MODEL', help='several model folders, to average')
    parser.add_argument('--out', required=True, help='the file: .onnx, or .xml for OpenVINO (with .onnx and .bin)')
    add_settings(parser)


def run(args: argparse.Namespace) -> None:
    """Export, compare and say how far the two differ."""
    from mmskin.errors import Mistake
    from mmskin.inference.inferencer import read_models
    from mmskin.packaging.export import BATCH_SIZES, TOLERANCE, export_model

    if args.model and args.models:
        raise Mistake(f'{args.model}: name all models behind --model, or one without it')
    cfg, weights = read_models(args.models or args.model, args.checkpoint or None, args.cfg_options)
    largest = export_model(cfg, weights, args.out)
    sizes = ', '.join(map(str, BATCH_SIZES))
    print(f'largest difference from torch in batches of {sizes}: {largest:.1e} (allowed: {TOLERANCE:.0e})')
    print(f'written: {args.out}')
