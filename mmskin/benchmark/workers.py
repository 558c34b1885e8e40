"""Working through the runs of a suite: one process or many, on one machine or a cluster."""

import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mmskin.benchmark.runs import Run
from mmskin.evaluation.report import write_text

__all__ = ['default_processes', 'select_shard', 'spawn', 'work']


def work(runs: Sequence[Run]) -> None:
    """Execute every run that is not finished and that no other process holds.

    A process holds a run by a lock on its folder, which the system frees when the process ends, however it ends. A run
    that fails leaves its traceback in ``error.txt``, and the others go on; it is tried again the next time.
    """
    tried: set[Path] = set()
    while sum(claim(run, tried) for run in runs):  # until a round finds none, since one may wait for another's networks
        pass


def claim(run: Run, tried: set[Path]) -> bool:
    """Execute ``run`` if it is free; whether it has been."""
    if run.finished or not run.ready or run.folder in tried:
        return False
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.folder / 'lock', timeout=0):
            return not run.finished and attempt(run, tried)
    except Timeout:
        return False


def attempt(run: Run, tried: set[Path]) -> bool:
    """Execute ``run``, and note a failure."""
    tried.add(run.folder)
    print(f'benchmark: {run.name} in {run.folder}', flush=True)
    error = run.folder / 'error.txt'
    try:
        run.execute()
        error.unlink(missing_ok=True)
    except Exception:
        write_text(error, traceback.format_exc())
        print(f'benchmark: {run.name} failed:\n{traceback.format_exc()}', file=sys.stderr, flush=True)
    return True


def select_shard(runs: Sequence[Run], shard: str | None, environment: Mapping[str, str] = os.environ) -> list[Run]:
    """The part of the runs that a process of a cluster takes.

    Args:
        runs: all runs.
        shard: 'i/n', the i-th of n parts, counted from 0. Without it, the place of the process in a Slurm array, or
            all runs where there is none. Methods that test the same networks stay together.
        environment: holds SLURM_ARRAY_TASK_ID, and so on.

    Raises:
        ValueError: if ``shard`` is not of this form.
    """
    if shard is None and 'SLURM_ARRAY_TASK_ID' in environment:
        first, step = (int(environment.get(f'SLURM_ARRAY_TASK_{key}', d)) for key, d in (('MIN', 0), ('STEP', 1)))
        place = (int(environment['SLURM_ARRAY_TASK_ID']) - first) // step
        shard = f'{place}/{environment["SLURM_ARRAY_TASK_COUNT"]}'
    index, _, count = (shard or '0/1').partition('/')
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f'--shard {shard}: write i/n with i from 0 to n - 1, such as 0/4.')
    trainers = list(dict.fromkeys(run.trainer.folder for run in runs))
    return [run for run in runs if trainers.index(run.trainer.folder) % int(count) == int(index)]


def default_processes() -> int:
    """One for each GPU, or one."""
    return max(torch.cuda.device_count(), 1)


def spawn(count: int, command: Sequence[str]) -> None:
    """Run ``command`` in ``count`` processes, each with a GPU of its own if there are any, and wait for them."""
    gpus = os.environ.get('CUDA_VISIBLE_DEVICES', ','.join(map(str, range(torch.cuda.device_count())))).split(',')
    processes = [
        subprocess.Popen(command, env={**os.environ, 'CUDA_VISIBLE_DEVICES': gpus[number % len(gpus)]})
        for number in range(count)
    ]
    for process in processes:
        process.wait()
