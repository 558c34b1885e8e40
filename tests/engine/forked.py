"""Python programs in processes of their own that need not import torch and mmskin, which takes seconds each time.

They are forked from a process that has imported what this one has, and has run nothing yet.
"""

import gc
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

__all__ = ['Program', 'run']

FORKS = get_context('forkserver')


class Program:
    """A program that runs.

    Args:
        words: What comes after ``python``: ``-c`` and code, ``-m`` and a module, or a script; then its arguments.
        environment: Variables to set, besides this process's.
        folder: Where it runs; None is the folder where this process does.
    """

    def __init__(
        self, *words: object, environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        FORKS.set_forkserver_preload(['torch.utils.tensorboard', *filter(is_ours, sys.modules)])
        self.words = [*map(str, words)]
        self.output = [Path(tempfile.mkstemp()[1]) for _ in ('stdout', 'stderr')]
        place = {**os.environ, **(environment or {})}, str(folder or Path.cwd())
        self.process = FORKS.Process(target=obey, args=(self.words, *place, self.output))
        self.process.start()

    def wait(self, seconds: float = 500) -> subprocess.CompletedProcess[str]:
        """Its exit status and what it printed; a program that takes longer is killed."""
        self.process.join(seconds)
        self.process.kill()
        self.process.join()
        printed = [path.read_text() for path in self.output]
        for path in self.output:
            path.unlink()
        return subprocess.CompletedProcess(self.words, self.process.exitcode, *printed)


def run(*words: object, **place: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, in a ``place`` as ``Program`` takes it."""
    return Program(*words, **place).wait()


def is_ours(module: str) -> bool:
    """Whether a module is worth importing before the fork; the page has a web framework behind it."""
    return module.startswith('mmskin.') and not module.startswith('mmskin.web')


def obey(words: list[str], environment: Mapping[str, str], folder: str, output: list[Path]) -> None:
    """Do in a forked process what ``python`` does with these words."""
    gc.freeze()
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    os.environ.update(environment)
    os.chdir(folder)
    for place, path in enumerate(output, 1):
        with path.open('w') as file:
            os.dup2(file.fileno(), place)
    sys.argv = words[1:] if words[0].startswith('-') else words
    if words[0] == '-c':
        sys.argv = ['-c', *words[2:]]
        exec(words[1], {'__name__': '__main__'})
    elif words[0] == '-m':
        runpy.run_module(words[1], run_name='__main__', alter_sys=True)
    else:
        sys.path.insert(0, str(Path(words[0]).parent))
        runpy.run_path(words[0], run_name='__main__')
