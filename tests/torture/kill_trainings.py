"""Kill trainings at random moments, resume them, and compare with one that ran through: make torture.

The small training has three stages of two epochs, with dropout, an averaged model and loader workers. Every other kill
comes while a checkpoint is being written. The trainings are processes of their own that run the command `mmskin train`;
they are forked from this one so that nobody waits for their imports.
"""

import argparse
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from mmskin.cli import main as mmskin
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.models.weights import read_weights
from mmskin.plugins import find_plugins

ROOT = Path(__file__).resolve().parents[2]
STAGES = ('cls', 'seg', 'joint')
FINAL = [Path(stage, 'epoch_2.pth') for stage in STAGES]
SEED, LAYOUT = "{'type': 'EpochSeed'}", "{'type': 'ChannelsLast'}"
EMA = "{'type': 'EMAHook', 'momentum': 0.1, 'update_buffers': True}"
COPY = "{'type': 'CopyBranch', 'source': 'cls', 'target': 'seg'}"
OPTIONS = [
    'keep_stages=True',
    'train_cfg.max_epochs=2',
    'train_dataloader.batch_size=4',
    *(f'{name}_dataloader.dataset.pipeline.0.size=48' for name in ('train', 'val', 'test')),
    *('val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False', 'test_dataloader.num_workers=0'),
    *('model.backbone.chain.type=narrow.NarrowChain', 'model.tasks.cls.head.dropout=0.5'),
    *(f'model.tasks.{task}.head.in_channels=8' for task in ('cls', 'seg')),
    f'custom_hooks=[{SEED}, {LAYOUT}, {EMA}]',
    f'stages.1.custom_hooks=[{SEED}, {LAYOUT}, {COPY}, {EMA}]',
]


def start(work_dir: Path, data_root: Path, *more: str) -> int:
    """Train in a process of its own; gives its id."""
    if process := os.fork():
        return process
    code = 1
    try:
        with (work_dir.parent / 'log.txt').open('a') as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        config = str(ROOT / 'configs/fpm/r18_synthetic.py')
        arguments = ['train', config, '--work-dir', str(work_dir), '--data-root', str(data_root), *more]
        code = mmskin([*arguments, '--cfg-options', *OPTIONS])
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # before it cleans up what is this process's


def end(process: int) -> int:
    """The exit code of a process, negative for the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def writes_until(process: int, work_dir: Path, count: int) -> bool:
    """Wait for the ``count``-th checkpoint that is being written; whether it came before the process ended."""
    seen: set[Path] = set()
    while len(seen) < count:
        seen.update(path for stage in STAGES for path in (work_dir / stage).glob('.*.pth.part'))
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
    return True


def kill(work_dir: Path, data_root: Path, seconds: float, while_writing: bool, draw: random.Random) -> str:
    """Start a training and kill it; says when it was, in words, or '' if it had ended by then."""
    work_dir.mkdir()
    process = start(work_dir, data_root)
    if while_writing:
        writes_until(
            process, work_dir, draw.randint(1, 3 * len(STAGES))
        )  # two epochs, and a last one without optimizer
    else:
        time.sleep(draw.uniform(0.05, 0.95) * seconds)
    os.kill(process, signal.SIGKILL)
    if end(process) != -signal.SIGKILL:
        return ''
    done = sum((work_dir / stage / 'stage.json').exists() for stage in STAGES)
    half = 'a checkpoint half written' if [*work_dir.glob('*/.*.pth.part')] else 'no write under way'
    saved = sorted(str(path.relative_to(work_dir)) for path in work_dir.rglob('*.pth'))
    return f'{done} stages done, {half}, {len(saved)} checkpoints ({", ".join(saved[-2:])})'


def faults(work_dir: Path, straight: Path) -> list[str]:
    """How a resumed training differs from the one that ran through."""
    found = [f'{path} is left' for path in work_dir.rglob('*.pth.part')]
    for name in FINAL:
        expected, weights = read_weights(straight / name), read_weights(work_dir / name)
        if expected.keys() != weights.keys():
            found.append(f'{name} has other keys')
        found += [f'{name}: {key}' for key in expected if not torch.equal(weights[key], expected[key])]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    draw, good = random.Random(args.seed), 0
    torch.set_num_threads(1)
    sys.path.append(str(ROOT / 'tests' / 'engine'))  # narrow.py
    find_plugins()  # imports all that a training will
    with TemporaryDirectory() as folder:
        data_root = Path(folder, 'data')
        SyntheticLesions(seed=5, shape=(48, 64)).write(data_root, num_train=12, num_val=7, num_test=11)
        straight = Path(folder, 'straight')
        straight.mkdir()
        began = time.monotonic()
        if end(start(straight, data_root)):
            print(Path(folder, 'log.txt').read_text()[-3000:])
            return 2
        seconds = time.monotonic() - began
        print(f'a training that runs through: {seconds:.0f} s', flush=True)
        for number in range(1, args.kills + 1):
            attempt = 0
            while not (when := kill(Path(folder, f'{number}.{attempt}'), data_root, seconds, number % 2 == 0, draw)):
                attempt += 1
            work_dir = Path(folder, f'{number}.{attempt}')
            code = end(start(work_dir, data_root, '--resume'))
            wrong = [f'--resume ended with {code}'] if code else faults(work_dir, straight)
            good += not wrong
            print(f'kill {number}: {when}: {"; ".join(wrong[:3]) or "resumed, bit-equal"}', flush=True)
            if wrong:
                print(Path(folder, 'log.txt').read_text()[-3000:])
    print(f'{good} of {args.kills} kills: the resumed training ended with the weights of the one that ran through')
    return int(good < args.kills)


if __name__ == '__main__':
    sys.exit(main())
