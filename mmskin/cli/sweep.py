"""Search for good settings of a config: Optuna chooses trials, Ray runs them, and ASHA stops those that fall behind.

mmskin sweep configs/fpm/lite0_isic2017.py --metric cls/AUC_mean --search optim_wrapper.optimizer.lr=1e-4..1e-2

A trial is a training, judged by its validations: after the first, third, ninth ... only the best third of the trials
continues. The same command again continues where it was interrupted. Needs: pip install '.[ray]'
"""

import argparse

from mmskin.program import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    from mmskin.config import SettingsAction

    parser.add_argument('config', help='Python config, with validation')
    parser.add_argument(
        '--search',
        nargs='+',
        action=SettingsAction,
        required=True,
        metavar='NAME=VALUES',
        help='settings: a range, 1e-4..1e-2 (logarithmic if it spans a factor of 10) or 2..6 (whole numbers), '
        'or values, [16,32]',
    )
    parser.add_argument('--metric', required=True, help='metric of the validation, such as seg/JA')
    parser.add_argument('--mode', choices=['max', 'min'], default='max', help='whether higher or lower is better (max)')
    parser.add_argument('--trials', type=int, default=20, help='number of trials (20)')
    parser.add_argument('--work-dir', help="trials and table go here (work_dirs/sweeps/<config's name>)")
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    parser.add_argument('--seed', type=int, default=0, help='seed of the search (0)')
    add_settings(parser, what='other settings of all trials')
    parser.add_argument(
        '--ray-address', metavar='ADDRESS', help='address of a Ray cluster (by default one is started on this machine)'
    )


def run(args: argparse.Namespace) -> None:
    """Run the trials that are missing, and say which was best."""
    from pathlib import Path

    from mmskin.cluster import import_ray
    from mmskin.errors import Mistake

    if args.trials < 1:
        raise Mistake(f'--trials {args.trials}: give a whole number from 1')
    import_ray(args.ray_address)
    from mmskin.engine.sweep import Sweep, sweep

    folder = args.work_dir or f'work_dirs/sweeps/{Path(args.config).stem}'
    plan = (args.search, args.metric, args.mode, args.trials, args.data_root, args.seed, args.cfg_options or {})
    best = sweep(Sweep(args.config, folder, *plan), args.ray_address)
    settings = ' '.join(f'{name}={value}' for name, value in best['settings'].items())
    print(f'table: {folder}/sweep.csv')
    print(f'best of {len(best["validations"])} trials: {args.metric} {best["value"]:.4f} with --cfg-options {settings}')
