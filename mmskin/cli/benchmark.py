"""Run a suite of methods and seeds, and compare them.

mmskin benchmark benchmarks/suites/quick.py

Finished runs are left as they are and interrupted ones go on. With several GPUs each takes the next free run
(--processes); any number of these commands may also run at once, over one file system. On a cluster:
sbatch --array=0-11 --wrap 'mmskin benchmark SUITE' gives each task its share.
"""

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a benchmark is told on the command line."""
    from mmengine.config import DictAction

    parser.add_argument('suite', help='Python file with methods, seeds and metrics')
    parser.add_argument('--work-dir', help='runs and report go here (work_dirs/benchmarks/<suite>)')
    parser.add_argument('--data-root', help="data folder, in place of the suite's")
    parser.add_argument('--processes', type=int, help='runs at the same time on this machine (one for each GPU)')
    parser.add_argument('--shard', help='i/n: take the i-th of n parts only, from 0; a Slurm array does it by itself')
    parser.add_argument('--report-only', action='store_true', help='collect what is finished; needs no data')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings for all methods')


def run(args: argparse.Namespace) -> None:
    """Train and test what is missing, then write <suite>.json, .md and .png."""
    from mmskin.benchmark.collect import collect
    from mmskin.benchmark.report import write_report
    from mmskin.benchmark.runs import check_suite, runs_of
    from mmskin.benchmark.suite import read_suite
    from mmskin.benchmark.workers import default_processes, select_shard, spawn, work

    suite = read_suite(args.suite, args.data_root, args.cfg_options)
    root = args.work_dir or f'work_dirs/benchmarks/{suite.name}'
    runs = runs_of(suite, root)
    processes = args.processes or default_processes()
    if not args.report_only:
        check_suite(runs)
    if not args.report_only and processes > 1:
        spawn(processes, [sys.executable, '-m', 'mmskin', 'benchmark', *args.arguments, '--processes', '1'])
    elif not args.report_only:
        work(select_shard(runs, args.shard))
    path = write_report(collect(suite, runs), root)
    print(f'{sum(run.finished for run in runs)} of {len(runs)} runs are finished; report: {path}')
    if failed := [run.name for run in runs if run.failed]:
        sys.exit(f'failed: {"; ".join(failed)}; each run folder has its error.txt')
