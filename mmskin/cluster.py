"""Ray as mmskin uses it: on the loopback unless a cluster is named, with no dashboard and no reports about its use."""

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

from mmskin.errors import Mistake, in_one_line, needs

__all__ = ['connected', 'import_ray', 'remote_task', 'resources']

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
