"""Ray as mmskin uses it: on the loopback unless a cluster is named, with no dashboard and no reports about its use."""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from mmskin.errors import Mistake, in_one_line, needs

# Ray looks at these as it is imported; where somebody else imports it first, they are theirs to choose.
SETTINGS = {
    'RAY_USAGE_STATS_ENABLED': '0',
    'RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO': '0',  # or it warns of a change to come
    'RAY_SERVE_LOG_TO_STDERR': '0',
    'RAY_AIR_NEW_OUTPUT': '0',  # whose tables cannot be switched off
    'TUNE_GLOBAL_CHECKPOINT_S': '2',  # what a kill of a sweep costs of its record, in place of 10 s and more
}
LOCAL = {
    'RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER': '0',  # listens on the loopback alone, as it does on these systems
    'RAY_worker_niceness': '0',  # its workers are no less urgent than the command
    'RAY_task_events_report_interval_ms': '0',  # which its dashboard would show
    'RAY_SERVE_CONTROL_LOOP_INTERVAL_S': '0.5',  # in place of .1, which takes 3 % of a core without a request
    'RAY_AUTH_MODE': 'token',  # or another user of this machine could run code with our rights
}
PATIENCE = 10  # seconds, in which a cluster answers a connection
FIRST_FRAME = b'\x04'  # the kind of frame by which both sides of HTTP/2 begin (RFC 9113, 3.4), on which Ray speaks gRPC
GREETING = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\0\0\0' + FIRST_FRAME + bytes(5)


def import_ray(address: str | None = None) -> ModuleType:
    """Ray, with its reports about its use switched off, and on the loopback unless it goes to a cluster.

    Args:
        address: Of the cluster; what ``RAY_ADDRESS`` says by default.

    Raises:
        MissingLibrary: if it is not installed.
    """
    address = address or os.environ.get('RAY_ADDRESS')
    if 'ray' not in sys.modules:
        local = {} if address else {**LOCAL, 'RAY_AUTH_TOKEN': secrets.token_hex(32)}
        for name, value in {**SETTINGS, **local}.items():
            os.environ.setdefault(name, value)
    return needs('ray', 'ray')


@contextmanager
def connected(address: str | None = None, **settings: Any) -> Iterator[ModuleType]:
    """Inside the block, Ray is connected to a cluster, or to one that is started here and ends with the block.

    Where Ray is connected already, it stays so.

    Args:
        address: Such as ``10.0.0.1:6379``; what ``RAY_ADDRESS`` says by default.
        settings: Of ``ray.init``, for a cluster that is started here.

    Raises:
        MissingLibrary: if Ray is not installed.
        Mistake: if it does not start, or no cluster answers.
    """
    address = address or os.environ.get('RAY_ADDRESS')
    ray = import_ray(address)
    if address and not ray.is_initialized():
        refuse_silent(address)
    ray._private.worker.print_to_stdstream = tell_on_stderr
    if ray.is_initialized():
        yield ray
        return
    settings = {'address': address} if address else {'address': 'local', 'include_dashboard': False, **settings}
    try:
        ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, none of which a caller could put right
        where = f'no Ray cluster answers at {address}' if address else 'Ray does not start on this machine'
        raise Mistake(f'{where}: {in_one_line(error)}') from error
    try:
        yield ray
    finally:
        ray.shutdown()


def refuse_silent(address: str) -> None:
    """Raise a ``Mistake`` if no server of Ray's kind listens at an address: Ray would try for minutes."""
    try:
        parts = urlsplit(address if '://' in address else f'ray://{address}')
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Mistake(f'{address}: no address of a Ray cluster ({error}); give one such as 10.0.0.1:6379') from error
    if not host or port is None:  # a word of Ray's, such as auto
        return
    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as line:
            if os.environ.get('RAY_USE_TLS', '0') != '0':
                return
            line.sendall(GREETING)
            answer = line.recv(9)
    except OSError as error:
        raise Mistake(f'no Ray cluster answers at {address}: {in_one_line(error)}') from error
    if answer[3:4] != FIRST_FRAME:
        raise Mistake(f'no Ray cluster answers at {address}: another program does; is it the port of the dashboard?')


def tell_on_stderr(message: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    """Write what Ray says of a worker or node that died as a line to stderr; Ray adds pages of its log, on stdout."""
    for text in message['lines']:
        print('Ray:', text.strip().partition('\n')[0], file=sys.stderr, flush=True)


def resources() -> dict[str, float]:
    """What a piece of work asks of a node: as many cores as this process has threads, and a GPU if there are any.

    Raises:
        Mistake: if no node has as many, which would be waited for for ever.
    """
    import ray
    import torch

    threads = torch.get_num_threads()
    nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]
    if not any(node.get('CPU', 0) >= threads for node in nodes):
        raise Mistake(f'no node of the Ray cluster has {threads} cores; set OMP_NUM_THREADS to fewer')
    return {'num_cpus': threads, 'num_gpus': int(any(node.get('GPU') for node in nodes))}


def remote_task(function: Callable, **options: Any) -> Any:
    """``function`` as a task of Ray that sees what it would see here: this folder, and as many threads.

    Args:
        function: Of a module.
        options: Of the task.
    """
    import ray
    import torch

    remote: Any = ray.remote  # whose types know no options from elsewhere
    return remote(**resources(), **options)(as_here(function, os.getcwd(), torch.get_num_threads()))


def as_here(function: Callable, folder: str, threads: int) -> Callable:
    """``function``, to be called in another process in ``folder`` and with so many threads."""

    @wraps(function)
    def call(*args: Any, **settings: Any) -> Any:
        import torch

        os.chdir(folder)
        torch.set_num_threads(threads)
        return function(*args, **settings)

    return call
