"""Decode the images and masks of a config once, for all later trainings.

mmskin cache configs/fpm/lite0_isic2017.py cache --data-root data/isic2017
mmskin train configs/fpm/lite0_isic2017.py --data-root data/isic2017 --cfg-options cache=cache

After an interruption, or when images were added or changed, run it again: it does the rest.
"""

import argparse

from mmskin.program import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is cached, and where."""
    parser.add_argument('config', help='Python config')
    parser.add_argument('out', help='folder for the cache')
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    parser.add_argument('--workers', type=int, default=2, help='processes that decode (2)')
    add_settings(parser, 'train_dataloader.dataset.seed=1')


def run(args: argparse.Namespace) -> None:
    """Write the cache, and say how a training uses it."""
    print('loading PyTorch and the config ...', flush=True)
    from mmskin.config import load_config
    from mmskin.datasets.cache import write_cache
    from mmskin.engine.stages import datasets_of
    from mmskin.errors import Mistake

    if args.workers < 0:
        raise Mistake(f'--workers {args.workers}: give 0 or more')
    cfg = load_config(args.config, None, args.data_root, options=args.cfg_options)
    try:
        for line in write_cache(datasets_of(cfg), args.out, args.workers):
            print(line, flush=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt('run it again to continue') from None
    print(f'train with --cfg-options cache={args.out}, or write cache = {args.out!r} into the config')
