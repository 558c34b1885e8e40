"""Show what the routes and gates of a network do: what closing them changes, rates by class, size and error.

mmskin gates configs/fpm/r101_isic2017.py work_dirs/r101_isic2017 --split val
"""

import argparse

from mmskin.program import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('model', help='model folder, name of a model that comes with mmskin, or a config')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or work folder, if the model is a config')
    parser.add_argument('--out-dir', help="figures and tables go here (work_dirs/<config's name>/gates)")
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    parser.add_argument('--split', choices=['train', 'val', 'test'], help="part of the data, instead of the config's")
    parser.add_argument('--num-images', type=int, default=6, help='how many images the picture of maps shows (6)')
    add_settings(parser)


def run(args: argparse.Namespace) -> None:
    """Analyse, and print the summary."""
    from mmskin.config import load_config, set_in_datasets, tested_dataset
    from mmskin.explain.gates import analyse_gates
    from mmskin.inference.inferencer import model_files

    config, weights = model_files(args.model, args.checkpoint)
    cfg = load_config(config, None, args.data_root, options=args.cfg_options)
    cfg.work_dir = args.out_dir or f'{cfg.work_dir}/gates'
    tested_dataset(cfg)  # whether there is one
    if args.split:
        set_in_datasets(cfg.test_dataloader, 'split', args.split)
    path = analyse_gates(cfg, weights, cfg.work_dir, args.num_images)
    print(path.read_text())
    print(f'written: {path.parent}')
