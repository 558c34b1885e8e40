"""The service of `mmskin serve --api` under load, and its latency against the same network called bare.

    mmskin export lite0_isic2017 --out lite0.onnx
    python speed/service.py --model lite0.onnx [--clients 200] [--seconds 30] [--queue 64] [--batch-size 1]

Four figures from one run, without test-time augmentation, on images of 1024 x 768 that are painted here:

1. Latency with nobody else: the network alone (a prepared batch of one in its runtime), `LesionInferencer` in this
   process (decoding, measuring and JSON included), and a POST to the service, in turns; CPU time, too, of all processes
   of the service, which a loaded machine changes less.
2. Where the CPU time of a POST goes, process by process, and what each takes unasked.
3. So many clients at once, each of which asks again as soon as it is answered, or after what Retry-After says: answers
   by status, rate, latency of those answered with 200.
4. Memory of all processes of the service before the load and at its highest, with the part that is shared counted in
   each process that shares it.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import numpy as np
import psutil
import torch
from PIL import Image

from mmskin import LesionInferencer
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.files import json_text
from mmskin.models.averaging import networks_in
from mmskin.models.watch import unwrap

PLACE = 'http://localhost:{}/'


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', default='lite0_isic2017')
    parser.add_argument('--clients', type=int, default=200)
    parser.add_argument('--seconds', type=float, default=30)
    parser.add_argument('--repeats', type=int, default=40)
    parser.add_argument('--queue', type=int, default=64)
    parser.add_argument('--batch-size', type=int, default=1)
    parser.add_argument('--replicas', type=int, default=1)
    parser.add_argument('--port', type=int, default=7861)
    return parser.parse_args()


@contextmanager
def served(args: argparse.Namespace) -> Iterator[psutil.Process]:
    """The service in a process of its own, once it answers."""
    options = [f'--{name}={getattr(args, name.replace("-", "_"))}' for name in ('model', 'queue', 'batch-size', 'port')]
    command = [
        sys.executable,
        '-W',
        'ignore',
        '-m',
        'mmskin',
        'serve',
        '--api',
        *options,
        f'--replicas={args.replicas}',
        '--no-tta',
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if not process.stdout.readline().startswith('serving'):
            sys.exit('the service did not start')
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def photos(count: int = 8) -> list[bytes]:
    """JPEGs as a phone would send them, smaller."""
    painted = SyntheticLesions(seed=1, shape=(768, 1024))
    files = [BytesIO() for _ in range(count)]
    for number, file in enumerate(files):
        Image.fromarray(painted.sample('train', number)[0]).save(file, 'JPEG', quality=90)
    return [file.getvalue() for file in files]


def megabytes(process: psutil.Process) -> dict[str, float]:
    """Resident memory by kind of process."""
    found: Counter[str] = Counter()
    for one in (process, *process.children(recursive=True)):
        try:
            name = one.cmdline()[0]
            kind = 'door' if one == process else 'network' if 'ServeReplica' in name else 'Ray'
            found[kind] += one.memory_info().rss / 1e6
        except (psutil.Error, IndexError):
            continue
    return found


def cpu_by_kind(process: psutil.Process) -> Counter[str]:
    """Milliseconds of CPU time so far, by what the process is; those of Ray's own by their names."""
    found: Counter[str] = Counter()
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error, IndexError):
            command = one.cmdline()
            file = next((part for part in command if part.endswith(('.py', 'raylet', 'gcs_server'))), command[0])
            kind = 'door' if one == process else command[0].split(':')[2] if '::' in command[0] else Path(file).name
            found[kind.split('(')[0]] += 1000 * sum(one.cpu_times()[:2])
    return found


def profile(process: psutil.Process, url: str, image: bytes, count: int) -> Iterator[str]:
    """CPU time a POST by process, and what each takes in the same time while nobody asks."""
    start, before = time.perf_counter(), cpu_by_kind(process)
    for _ in range(count):
        request = urllib.request.Request(f'{url}predict', image, {'content-type': 'image/jpeg'})
        urllib.request.urlopen(request).read()
    passed, after = time.perf_counter() - start, cpu_by_kind(process)
    time.sleep(passed)
    idle = cpu_by_kind(process)
    for kind in sorted(after, key=lambda one: before[one] - after[one]):
        asked, unasked = (after[kind] - before[kind]) / count, (idle[kind] - after[kind]) / count
        if max(asked, unasked) >= 0.5:
            yield f'| {kind} | {asked:.1f} | {unasked:.1f} | {asked - unasked:.1f} |'


def cpu_ms(process: psutil.Process) -> float:
    """CPU time that the service has taken so far, in all of its processes."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += sum(one.cpu_times()[:2])
    return 1000 * total


async def alone(
    process: psutil.Process, url: str, images: list[bytes], sides: dict[str, Callable[[], object]], repeats: int
) -> tuple[dict[str, list], dict[str, float]]:
    """Milliseconds of each side, in turns: those of this process, and a POST; and CPU time on average."""
    times: dict[str, list] = {name: [] for name in [*sides, 'a POST to the service']}
    cpu = dict.fromkeys(times, 0.0)
    connector = aiohttp.TCPConnector(force_close=True)  # the service closes one that waits while the others run
    async with aiohttp.ClientSession(connector=connector) as session:
        for number in range(-3, repeats):
            for name in times:
                before = 1000 * time.process_time() if name in sides else cpu_ms(process)
                start = time.perf_counter()
                if name in sides:
                    sides[name]()
                else:
                    async with session.post(f'{url}predict', data=images[number % len(images)]) as response:
                        assert response.status == 200, await response.text()
                        await response.read()
                if number >= 0:
                    times[name].append(1000 * (time.perf_counter() - start))
                    after = 1000 * time.process_time() if name in sides else cpu_ms(process)
                    cpu[name] += (after - before) / repeats
    return times, cpu


async def crowd(url: str, images: list[bytes], clients: int, seconds: float) -> tuple[Counter, list[float]]:
    """How often the service answered with which status, and the seconds of each 200."""
    end = time.monotonic() + seconds
    statuses: Counter = Counter()
    times = []
    timeout = aiohttp.ClientTimeout(total=120)

    async def ask(number: int) -> None:
        while time.monotonic() < end:
            start = time.perf_counter()
            try:
                async with session.post(f'{url}predict', data=images[number % len(images)]) as response:
                    await response.read()
                    statuses[response.status] += 1
                    pause = float(response.headers.get('retry-after', 0))
            except aiohttp.ClientError as error:
                statuses[type(error).__name__] += 1
                pause = 1.0
            else:
                if response.status == 200:
                    times.append(time.perf_counter() - start)
            await asyncio.sleep(pause)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        await asyncio.gather(*map(ask, range(clients)))
    return statuses, times


def main() -> None:
    """Measure and print."""
    args = parse_args()
    images = photos()
    inferencer = LesionInferencer(args.model, device='cpu', tta=False)
    prepared = inferencer.inputs([images[0]])
    module = unwrap(inferencer.network)
    networks = networks_in(inferencer.network)
    run = module.session.run if inferencer.is_exported else lambda images: [network(images) for network in networks]
    values = np.ascontiguousarray(prepared.numpy()) if inferencer.is_exported else prepared

    def bare() -> None:
        with torch.inference_mode():
            run(values)

    def answer() -> None:
        json_text(inferencer(images[0]).to_dict(False))

    sides = {'the network alone': bare, 'LesionInferencer, to the JSON': answer}
    url = PLACE.format(args.port)
    with served(args) as process:
        times, cpu = asyncio.run(alone(process, url, images, sides, args.repeats))
        print('| process | CPU ms a POST | in the same time, unasked | for the POST |\n|---|---|---|---|')
        print('\n'.join(profile(process, url, images[0], args.repeats)), flush=True)
        before, most = megabytes(process), Counter()
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.2):
                for kind, size in megabytes(process).items():
                    most[kind] = max(most[kind], size)

        watcher = threading.Thread(target=watch)
        watcher.start()
        start = time.perf_counter()
        statuses, seconds = asyncio.run(crowd(url, images, args.clients, args.seconds))
        passed = time.perf_counter() - start
        done.set()
        watcher.join()
    print(
        f'{args.model}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, batches of up to {args.batch_size}'
    )
    print('| one client | median ms | slowest tenth ms | x the network alone | CPU ms |\n|---|---|---|---|---|')
    alone_ms = median(times['the network alone'])
    for name, values in times.items():
        cells = f'{median(values):.1f} | {quantiles(values, n=10)[-1]:.1f} | {median(values) / alone_ms:.2f}'
        print(f'| {name} | {cells} | {cpu[name]:.1f} |')
    answered = ', '.join(f'{count} x {status}' for status, count in sorted(statuses.items(), key=str))
    print(f'{args.clients} clients at once, {passed:.0f} s: {answered}; {statuses[200] / passed:.1f} images/s')
    print(f'latency of a 200: median {median(seconds):.2f} s, slowest tenth {quantiles(seconds, n=10)[-1]:.2f} s')
    for kind in before:
        print(f'memory, {kind}: {before[kind]:.0f} MB before, {most[kind]:.0f} MB at the most')


if __name__ == '__main__':
    main()
