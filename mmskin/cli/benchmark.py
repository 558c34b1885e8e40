"""Run a suite of methods and seeds, and compare them.

mmskin benchmark suites/quick.py

Finished runs are kept and interrupted ones continue. With several GPUs each takes the next free run
(--processes); any number of these commands may also run at once, on a shared file system. On a cluster:
sbatch --array=0-11 --wrap 'mmskin benchmark SUITE' gives each task its share; the ids have to begin at 0. On Ray,
--on ray: each run is a task, which continues elsewhere if its node dies. Needs: pip install '.[ray]'
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmskin.program import add_settings

if TYPE_CHECKING:
    from mmskin.benchmark.runs import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line's options."""
    parser.add_argument('suite', help='Python file with methods, seeds and metrics')
    parser.add_argument('--work-dir', help='runs and report go here (work_dirs/benchmarks/<suite>)')
    parser.add_argument(
        '--out',
        help='results and report go here instead, small enough for a repository, such as results/<suite>; finished '
        'runs are not repeated',
    )
    parser.add_argument('--data-root', help="data folder, instead of the suite's")
    parser.add_argument('--processes', type=int, help='runs at the same time on this machine (one for each GPU)')
    parser.add_argument('--on', choices=['ray'], help='run on a Ray cluster, each run on any free node')
    parser.add_argument(
        '--ray-address', metavar='ADDRESS', help='address of a Ray cluster (by default one is started on this machine)'
    )
    parser.add_argument('--shard', help='i/n: run only part i of n, from 0; Slurm arrays are recognised')
    parser.add_argument(
        '--methods', nargs='+', metavar='NAME', help='run only these methods, and those whose networks they need'
    )
    parser.add_argument('--power', action='store_true', help='print which differences the suite can detect')
    parser.add_argument('--report-only', action='store_true', help='report on finished runs; needs no data')
    add_settings(parser, what='settings for all methods')


def run(args: argparse.Namespace) -> None:
    """Train and test what is missing, then write <suite>.json, .md and .png."""
    from mmskin.benchmark.collect import collect
    from mmskin.benchmark.comparison import write_comparison
    from mmskin.benchmark.runs import runs_of
    from mmskin.benchmark.suite import read_suite
    from mmskin.benchmark.workers import failures
    from mmskin.errors import Mistake

    if args.processes is not None and args.processes < 1:
        raise Mistake(f'--processes {args.processes}: give a whole number from 1')
    if args.ray_address and not args.on:
        raise Mistake('--ray-address goes with --on ray; add that, or leave the address out')
    if args.processes and args.on:
        raise Mistake('--processes are of this machine; with --on ray, the cluster says how many runs it has room for')
    if args.power and args.report_only:
        raise Mistake(
            '--power prints what the suite can detect, and no report; leave out one of --power, --report-only'
        )
    if args.power or args.report_only:
        for option in ('methods', 'shard', 'processes', 'on'):
            if getattr(args, option):
                raise Mistake(f'--{option} says what is run, and nothing is; leave it out')
    suite = read_suite(args.suite, args.data_root, args.cfg_options)
    root = args.work_dir or f'work_dirs/benchmarks/{suite.name}'
    runs = runs_of(suite, root, args.out)
    if args.power:
        from mmskin.benchmark.power import power_report

        print(power_report(suite, runs))
        return
    failed = failures(runs) if args.report_only else execute(args, runs)
    finished = sum(run.finished for run in runs)
    if finished or args.report_only:  # else other processes may still be at the first ones
        print(f'report: {write_comparison(collect(suite, runs), args.out or root)}')
    print(f'{finished} of {len(runs)} runs are finished')
    if failed:
        sys.exit('\n'.join(failed))


def execute(args: argparse.Namespace, runs: 'list[Run]') -> list[str]:
    """Do this command's share of ``runs``; what went wrong, in words."""
    import torch

    from mmskin.benchmark.runs import check_suite
    from mmskin.benchmark.workers import faults, select_methods, select_shard, spawn, work, work_on_ray

    chosen = select_methods(runs, args.methods)
    print(f'benchmark: checking the configs and data of {len(chosen)} runs ...', flush=True)
    check_suite(chosen)
    if args.out:
        Path(args.out).mkdir(parents=True, exist_ok=True)  # before anything trains, whether it can be
    share = select_shard(chosen, args.shard)
    if len(share) < len(runs):
        print(f'this command does {len(share)} of {len(runs)} runs')
    if args.on:
        work_on_ray(share, args.ray_address)
        return faults(share)
    processes = args.processes or max(torch.cuda.device_count(), 1)
    if processes > 1:
        command = [sys.executable, '-m', 'mmskin', 'benchmark', *args.arguments, '--processes', '1']
        return faults(share, spawn(processes, command))
    work(share)
    return faults(share)
