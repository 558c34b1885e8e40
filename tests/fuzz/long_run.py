"""What a process keeps of many predictions and tests: python tests/fuzz/long_run.py.

Prints descriptors and resident memory as the first ones leave them, and at the end; a narrow network, the same images.
"""

import argparse
import contextlib
import io
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

from attack import quiet
from scene import Scene

from mmskin import LesionInferencer
from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint


def measured() -> str:
    """Descriptors and memory of this process now."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return f'{len(os.listdir("/proc/self/fd"))} descriptors, {pages * resource.getpagesize() / 2**20:.0f} MB'


def repeat(name: str, count: int, call: Callable[[], object]) -> None:
    """Call so often, and print what was held after a tenth, a half and all of it."""
    for number in range(1, count + 1):
        with contextlib.redirect_stdout(io.StringIO()):
            call()
        if number in (count // 10, count // 2, count):
            print(f'{number} {name}: {measured()}', flush=True)


def main() -> None:
    """Predict and test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--predictions', type=int, default=1000)
    parser.add_argument('--tests', type=int, default=200)
    args = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            scene = Scene(Path(folder))
            inferencer = LesionInferencer(scene.model, device='cpu')
        photo = next(scene.data.glob('*Test_v2_Data/*.jpg'))
        repeat('predictions', args.predictions, lambda: inferencer(photo))
        cfg = load_config(scene.config, str(scene.folder / 'again'))
        repeat('tests', args.tests, lambda: evaluate_checkpoint(cfg, scene.trained))


if __name__ == '__main__':
    main()
