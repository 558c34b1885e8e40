"""Train a config, stage by stage.

mmskin train configs/fpm/r101_isic2017.py
"""

import argparse

from mmskin.program import add_launcher, add_settings

BACKENDS = {'mlflow': 'MLflowVisBackend', 'wandb': 'WandbVisBackend'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('config', help='Python config')
    parser.add_argument('--work-dir', help="checkpoints and logs go here (work_dirs/<config's name>)")
    parser.add_argument('--data-root', help="data folder, instead of the config's")
    parser.add_argument(
        '--resume', action='store_true', help='continue where an earlier run in the same work folder stopped'
    )
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='run one batch of every stage through training and validation; leaves no file',
    )
    parser.add_argument(
        '--check', action='store_true', help='load every image and mask, and name those that are missing or damaged'
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (bfloat16 on a CPU)')
    parser.add_argument('--seed', type=int, help="seed, instead of the config's")
    parser.add_argument('--track', nargs='+', choices=BACKENDS, default=[], help='log there in addition to TensorBoard')
    add_settings(parser, 'train_cfg.max_epochs=2')
    add_launcher(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and say where the result is; the status of a check is 1 if a file is at fault."""
    print('loading PyTorch and the config ...', flush=True)
    from mmengine.dist import is_main_process

    from mmskin.config import load_config
    from mmskin.datasets.cache import files_at_fault
    from mmskin.engine.dry_run import dry_run
    from mmskin.engine.stages import datasets_of, run_stages

    cfg = load_config(args.config, args.work_dir, args.data_root, args.seed, args.amp, args.cfg_options, args.launcher)
    if args.dry_run:
        dry_run(cfg)
        return 0
    if args.check:
        datasets = datasets_of(cfg)
        count = 0
        for fault in files_at_fault(datasets, workers=2):
            print(fault, flush=True)
            count += 1
        print(f'{sum(map(len, datasets))} images, {count} with faults')
        return 1 if count else 0
    if args.track:
        if not cfg.get('visualizer'):
            cfg.visualizer = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')])
        cfg.visualizer.vis_backends += [dict(type=BACKENDS[name]) for name in args.track]
    try:
        checkpoint = run_stages(cfg, args.resume)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f'--resume --work-dir {cfg.work_dir} continues from the last epoch') from None
    if is_main_process():
        print(f'final checkpoint: {checkpoint}')
    return 0
