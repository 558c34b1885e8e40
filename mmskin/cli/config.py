"""Print a config as a training uses it: its bases, your options and a stage's own settings merged in.

mmskin config configs/fpm/lite0_isic2017.py --stage joint > joint.py

The output is itself a config.
"""

import argparse

from mmskin.program import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which config, and what is different."""
    parser.add_argument('config', help='Python config')
    parser.add_argument('--stage', help='merge in the settings of this stage (default: the whole config)')
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    add_settings(parser, 'train_cfg.max_epochs=2')


def run(args: argparse.Namespace) -> None:
    """Print it."""
    from mmskin.config import load_config
    from mmskin.engine.stages import stage_configs
    from mmskin.errors import Mistake

    cfg = load_config(args.config, None, args.data_root, options=args.cfg_options)
    if args.stage is not None:
        stages = {stage.get('stage'): stage for stage in stage_configs(cfg)}
        if args.stage not in stages:
            names = ', '.join(map(str, stages)) if cfg.get('stages') else 'none'
            raise Mistake(f'{cfg.filename}: no stage is named {args.stage!r}; there are {names}')
        cfg = stages[args.stage]
    for key in ('command_line_options', 'launcher'):
        cfg.pop(key, None)
    print(cfg.pretty_text, end='')
