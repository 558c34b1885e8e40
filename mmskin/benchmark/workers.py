"""Working through the runs of a suite: one process or many, on one machine or a cluster."""

import gc
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from mmskin.benchmark.runs import Run
from mmskin.cluster import connected, remote_task
from mmskin.errors import Mistake, in_one_line
from mmskin.files import write_text

PAUSE = 10.0  # seconds
GLANCE = 0.2  # seconds to wait for a lock: longer than another process takes to see whether it is held


def work(runs: Sequence[Run], pause: float = PAUSE) -> None:
    """Execute every run that is not finished and that no other process holds.

    A process holds a run by a lock on its folder, which the system frees when the process ends, however it ends. A run
    that fails leaves its traceback in ``error.txt``, and the others continue; it is tried again the next time. While
    another process holds a run whose network one of ``runs`` needs, this one looks again after ``pause`` seconds.
    """
    tried: set[Path] = set()
    held: set[Path] = set()  # by another process, when last looked at
    while True:
        executed = 0
        for run in runs:  # in rounds, since one may be ready after another
            if run.folder in held and run.failed:
                tried.add(run.folder)  # by the other process
            held.discard(run.folder)
            if not run.is_open or not run.ready or run.folder in tried:
                continue
            run.folder.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(run.folder / 'lock', timeout=GLANCE):
                    if run.is_open:
                        tried.add(run.folder)
                        executed += 1
                        attempt(run)
            except Timeout:
                held.add(run.folder)
        if not executed and not any(run.is_open and run.needed and run.needed.folder in held for run in runs):
            return
        if not executed:
            time.sleep(pause)


def work_on_ray(runs: Sequence[Run], address: str | None = None) -> None:
    """Execute every run that is not finished as a task of Ray, on whatever node has room, over one file system.

    A run that is lost with its process or node is started again on another, three times at most, and continues from its
    last checkpoint. The lock on its folder keeps the lost process, if it still works, and the next one apart. Each run
    has as many cores as this process has threads, so that its numbers are those of one process, and a GPU if there are
    any. A run that fails leaves its traceback in ``error.txt``.
    """
    with connected(address) as ray:
        task = remote_task(execute_held, max_retries=3)
        waiting: dict = {}
        for run in runs:  # those that need another's network come after it, and wait for its task
            others = {other.folder: reference for reference, other in waiting.items()}
            if run.is_open:
                waiting[task.remote(run, run.needed and others.get(run.needed.folder))] = run
        while waiting:
            (done, *_), _ = ray.wait([*waiting])
            run = waiting.pop(done)
            try:
                print(f'benchmark: {run.name}: {ray.get(done)}', flush=True)
            except ray.exceptions.RayError as error:
                print(f'benchmark: {run.name}: {in_one_line(error)}', file=sys.stderr, flush=True)


def execute_held(run: Run, needed: object = None) -> str:
    """Execute ``run`` once nobody else does, unless it is finished by then; what has become of it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(run.folder / 'lock'):
        if run.is_open and run.ready:
            attempt(run)
    return 'failed' if run.failed else 'finished' if not run.is_open else 'waits for a network that is not there'


def attempt(run: Run) -> None:
    """Execute ``run``, and note a failure: a mistake in its config is one line, a fault a traceback."""
    print(f'benchmark: {run.name} in {run.folder}', flush=True)
    error = run.folder / 'error.txt'
    error.unlink(missing_ok=True)
    try:
        run.execute()
    except Exception as fault:
        write_text(error, traceback.format_exc())
        reason = in_one_line(fault) if isinstance(fault, Mistake) else f'\n{traceback.format_exc()}'
        print(f'benchmark: {run.name} failed: {reason}', file=sys.stderr, flush=True)
    gc.collect()  # a runner and its network refer to each other, and would stay beside the next


def is_held(run: Run) -> bool:
    """Whether some process works on ``run``."""
    if not run.folder.is_dir():
        return False
    try:
        with FileLock(run.folder / 'lock', timeout=0):
            return False
    except Timeout:
        return True


def select_methods(runs: Sequence[Run], names: Sequence[str] | None) -> list[Run]:
    """The runs of these methods and of those whose networks they need, in a suite without others; all without names.

    A network that is gone is not trained again for a method that nobody asked for.
    """
    if names is None:
        return [*runs]
    known = runs[0].suite.methods
    if unknown := {*names} - {method.name for method in known}:
        raise Mistake(
            f'--methods {", ".join(sorted(unknown))}: the suite has no such method; it has '
            f'{", ".join(method.name for method in known)}'
        )
    kept: set[Path] = set()
    for run in runs:
        wanted: Run | None = run if run.method.name in names else None
        while wanted:
            kept.add(wanted.folder)
            wanted = wanted.needed
    chosen = [run for run in runs if run.folder in kept]
    methods = tuple({run.method.name: run.method for run in chosen}.values())
    return [replace(run, suite=replace(run.suite, methods=methods)) for run in chosen]


def select_shard(runs: Sequence[Run], shard: str | None, environment: Mapping[str, str] = os.environ) -> list[Run]:
    """The part of the runs that a process of a cluster takes.

    Args:
        runs: all runs.
        shard: 'i/n', the i-th of n parts, counted from 0. Without it, the place of the process in a Slurm array, or
            all runs where there is none. Methods that need one another's networks stay together.
        environment: holds SLURM_ARRAY_TASK_ID, and so on.

    Raises:
        Mistake: if ``shard`` is not of this form, or the ids of the array are not 0 to n - 1: with others, as where
            single tasks are submitted again, n is not known, and parts would be left out.
    """
    own, first, last, size = (environment.get(f'SLURM_ARRAY_TASK_{key}') for key in ('ID', 'MIN', 'MAX', 'COUNT'))
    if shard is None and own is not None:
        if (first, last) != ('0', f'{int(size or 0) - 1}'):
            raise Mistake(
                f'this Slurm array has {size} ids from {first} to {last}, so its parts are unknown; submit it '
                'as --array=0-11, which are 12 parts, or say which part this task takes, such as --shard 3/12'
            )
        shard = f'{own}/{size}'
    index, _, count = (shard or '0/1').partition('/')
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise Mistake(f'--shard {shard}: write i/n with i from 0 to n - 1, such as 0/4')
    origins = list(dict.fromkeys(run.origin.folder for run in runs))
    return [run for run in runs if origins.index(run.origin.folder) % int(count) == int(index)]


def spawn(count: int, command: Sequence[str]) -> list[int]:
    """Run ``command`` in ``count`` processes, each with a GPU of its own if there are any; their exit codes."""
    gpus = os.environ.get('CUDA_VISIBLE_DEVICES', ','.join(map(str, range(torch.cuda.device_count())))).split(',')
    processes = [
        subprocess.Popen(command, env={**os.environ, 'CUDA_VISIBLE_DEVICES': gpus[number % len(gpus)]})
        for number in range(count)
    ]
    return [process.wait() for process in processes]


def faults(runs: Sequence[Run], codes: Sequence[int] = ()) -> list[str]:
    """What is wrong after work on ``runs``, in words: runs that failed, processes that died, runs that were not done.

    Args:
        runs: the process's own; one that another process still works on is not listed.
        codes: the exit codes of its worker processes.
    """
    dead = [str(code) for code in codes if code]
    left = [run.name for run in runs if run.is_open and not run.failed and not is_held(run)]
    lines = failures(runs)
    if dead:
        lines.append(f'{len(dead)} of {len(codes)} processes ended with an error (exit codes: {", ".join(dead)})')
    if left:
        lines.append(f'not finished, and held by no process: {"; ".join(left)}; run the same command again')
    return lines


def failures(runs: Sequence[Run]) -> list[str]:
    """Which of ``runs`` failed, in words."""
    failed = [run.name for run in runs if run.failed]
    return [f'failed: {"; ".join(failed)}; each run folder has its error.txt'] if failed else []
