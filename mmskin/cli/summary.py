"""Show a network before it trains: blocks, maps, passing, parameters and FLOPs, and what each stage trains.

mmskin summary configs/fpm/lite0_isic2017.py

It needs neither data nor weights.
"""

import argparse

from mmskin.program import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which config, and what is different."""
    parser.add_argument('config', help='Python config')
    parser.add_argument('--size', type=int, help="side of the image in pixels (the pipeline's)")
    add_settings(parser, 'model.use_passing=False')


def run(args: argparse.Namespace) -> None:
    """Print it."""
    from mmskin.config import load_config
    from mmskin.engine.summary import summarize

    print(summarize(load_config(args.config, options=args.cfg_options), args.size))
