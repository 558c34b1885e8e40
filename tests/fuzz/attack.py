"""Damage files of every kind and hand them to mmskin: python tests/fuzz/attack.py --seconds 60.

Each answer has to be the right one, or one line that names the file. A traceback, another number without a word, a
hang and a refusal that names nothing are failures: the damaged file is kept, with the command that makes it again.
"""

import argparse
import contextlib
import gc
import io
import logging
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from doors import DOORS, Door, open_doors
from mangling import mangled
from scene import Scene

from mmskin.errors import Mistake, in_one_line

__all__ = ['Attack', 'main']

LIMIT = 60  # seconds for an answer
MEMORY = 12 << 30  # bytes of address space beyond what is in use
GOOD = ('right', 'as written', 'refused')


class Attack:
    """Sends damaged files through doors.

    Args:
        doors: Through which.
        keep: The folder for files that made trouble; None keeps none.
        seed: Another one makes other damage.
    """

    def __init__(self, doors: list[Door], keep: Path | None = None, seed: int = 0) -> None:
        self.doors, self.keep, self.seed = doors, keep, seed
        self.whole = {door.name: door.file.read_bytes() for door in doors}
        self.right: dict[Callable[[], str], str] = {}  # doors that read one whole from several files share it
        self.counts: Counter[tuple[str, str]] = Counter()

    def strike(self, door: Door, number: int) -> tuple[str, str]:
        """The verdict on one damaged file, and what was seen."""
        whole = self.whole[door.name]
        if door.ask not in self.right:
            self.right[door.ask] = door.ask()
        data = mangled(door.kind, whole, f'{self.seed} {door.name} {number}')
        door.file.write_bytes(data)
        try:
            verdict, seen = self.verdict(door, data)
        finally:
            door.file.write_bytes(whole)
        self.counts[door.name, verdict] += 1
        if verdict not in GOOD and self.keep:
            self.keep.mkdir(parents=True, exist_ok=True)
            name = f'{door.name} {number}'.replace(' ', '_').replace(':', '')
            (self.keep / f'{name}_{door.file.name}').write_bytes(data)
            (self.keep / f'{name}.txt').write_text(f'{verdict}\n{seen}\n', errors='backslashreplace')
        return verdict, seen

    def verdict(self, door: Door, data: bytes) -> tuple[str, str]:
        """'right', 'as written', 'refused', or what is wrong."""
        try:
            with limits():
                answer = door.ask()
        except Mistake as error:
            line = in_one_line(error)
            named = not door.named or door.file.name in line
            return ('refused', line) if named else ('names no file', line)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return 'traceback', ''.join(traceback.format_exception(error))
        if answer == self.right[door.ask]:
            return 'right', answer
        return ('as written' if door.allows(data, answer) else 'silent', answer)

    def run(self, seconds: float, count: int | None = None) -> Iterator[tuple[Door, int, str, str]]:
        """Doors in turn, with the next number each, until time or numbers are used up."""
        end, number = time.monotonic() + seconds, 0
        while number != count:
            for door in self.doors:
                if time.monotonic() > end:
                    return
                yield door, number, *self.strike(door, number)
            number += 1

    def table(self) -> str:
        """How many inputs each door got, and the verdicts."""
        verdicts = [*GOOD, *sorted({verdict for _, verdict in self.counts} - {*GOOD})]
        lines = [f'{"":<45}' + ''.join(f'{name:>14}' for name in ('inputs', *verdicts))]
        for name in [*(door.name for door in self.doors), 'all']:
            found = [
                sum(count for (door, seen), count in self.counts.items() if name in (door, 'all') and seen == verdict)
                for verdict in verdicts
            ]
            lines.append(f'{name:<45}' + ''.join(f'{number:>14}' for number in (sum(found), *found)))
        return '\n'.join(lines)


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Time and memory for one answer; what mmskin prints meanwhile is dropped."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f'no answer in {LIMIT} s')

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main() -> int:
    """Attack, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60, help='for how long')
    parser.add_argument('--count', type=int, help='how many files for each door, if there is time')
    parser.add_argument('--seed', type=int, default=0, help='another one makes other damage')
    parser.add_argument('--only', nargs='+', choices=DOORS, default=[*DOORS], help='these groups of doors')
    parser.add_argument('--door', help='this door alone')
    parser.add_argument('--number', type=int, help='this one file for it')
    parser.add_argument('--keep', type=Path, default=Path('work_dirs/fuzz'), help='what made trouble goes here')
    args = parser.parse_args()
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        doors = [door for door in open_doors(Scene(Path(folder)), args.only) if args.door in (None, door.name)]
        attack = Attack(doors, args.keep.absolute(), args.seed)
        print(f'{len(doors)} doors', flush=True)
        os.chdir(folder)
        if args.number is not None:
            verdict, seen = attack.strike(doors[0], args.number)
            print(verdict, seen[-5000:])
            return verdict not in GOOD
        for door, number, verdict, seen in attack.run(args.seconds, args.count):
            if verdict not in GOOD:
                last = ascii(seen.strip().splitlines()[-1][:300]) if seen.strip() else ''
                print(f'{door.name} {number}: {verdict}: {last}', flush=True)
    print(attack.table())
    return any(verdict not in GOOD for _, verdict in attack.counts)


def quiet() -> None:
    """One thread, and no word of libraries."""
    gc.freeze()  # or Python looks for garbage through all of torch, again and again
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    logging.disable(logging.CRITICAL)


if __name__ == '__main__':
    sys.exit(main())
