"""A training over machines that come and go, each played by a torchrun of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook

SECONDS = 300  # for what takes some 60 on busy cores


class Hold(Hook):
    """Notes each epoch and its processes; waits after the second for a kill, and alone after the fourth."""

    priority = 'LOWEST'  # after the checkpoint

    def after_train_epoch(self, runner):
        folder, epoch, processes = Path(runner.work_dir), runner.epoch + 1, get_world_size()
        if is_main_process():
            with (folder / 'epochs').open('a') as file:
                file.write(f'{epoch} in {processes}\n')
        while (epoch, processes) == (4, 1) or (epoch == 2 and not (folder / 'killed').exists()):
            time.sleep(0.1)


@pytest.fixture
def machine(repository, data_root, tiny, tmp_path):
    """Start a machine that takes part."""
    options = {**tiny, 'stages': None, 'train_cfg.max_epochs': 6}
    options |= {'custom_hooks': "[{'type': 'test_elastic.Hold'}]"}
    environment = {**os.environ, 'NNODES': '1:2', 'RENDEZVOUS': str(tmp_path / 'rendezvous')}
    environment |= {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    environment['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    environment['PYTHONPATH'] = f'{Path(__file__).parent}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    command = ['bash', repository / 'tools/dist_train.sh', repository / 'configs/fpm/r18_synthetic.py', '1']
    command += ['--work-dir', tmp_path / 'run', '--data-root', data_root]
    command += ['--cfg-options', *(f'{name}={value}' for name, value in options.items())]
    started = []

    def start():
        started.append(subprocess.Popen(command, env=environment))
        return started[-1]

    yield start
    for process in started:
        kill(process)


def kill(process):
    """End a machine as a power cut does."""
    if process.poll() is None:
        for one in (*psutil.Process(process.pid).children(recursive=True), process):
            one.kill()
        process.wait()


def wait_for(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.mark.long
@pytest.mark.parametrize('lost', ['the one with the main process', 'the other'])
def test_one_of_two_machines_is_lost_and_comes_back(machine, tmp_path, lost):
    folder, machines = tmp_path / 'run', [machine(), machine()]
    wait_for((folder / 'epoch_2.pth').exists)
    kill(machines.pop(lost == 'the other'))
    (folder / 'killed').touch()
    wait_for((folder / 'epoch_4.pth').exists)
    machines.append(machine())
    assert [one.wait(SECONDS) for one in machines] == [0, 0]
    epochs = ['1 in 2', '2 in 2', '3 in 1', '4 in 1', '5 in 2', '6 in 2']
    assert (folder / 'epochs').read_text().splitlines() == epochs  # each once: it went on from the last checkpoint
    assert (folder / 'stage.json').exists()
