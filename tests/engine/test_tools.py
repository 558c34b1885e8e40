"""The tools as a user calls them, on one process and on two."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from torch.distributed.run import parse_args

pytestmark = pytest.mark.slow

KEYS = [
    *(f'cls/{key}' for key in ('AC', 'mAP', 'AUC_melanoma', 'AUC_seborrheic_keratosis', 'AUC_mean')),
    *(f'seg/{key}' for key in ('JA', 'DI', 'AC', 'sensitivity', 'specificity')),
]


@pytest.fixture(scope='module')
def call(repository, data_root, tiny):
    """Run a tool on the tiny config and set."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, 'PORT': str(port), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    environment['PYTHONPATH'] = f'{Path(__file__).parent}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    options = ['--data-root', str(data_root), '--cfg-options', *(f'{key}={value}' for key, value in tiny.items())]

    def run(tool, *arguments, python=Path(sys.executable).parent):
        environment['PATH'] = f'{python}{os.pathsep}{os.environ["PATH"]}'
        words = [str(repository / 'tools' / tool), str(repository / 'configs/fpm/r18_synthetic.py')]
        words += [*arguments, *options]
        if tool.endswith('.py'):
            result = forked.run(*words, environment=environment)
        else:
            result = subprocess.run(['bash', *words], capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    return run


@pytest.fixture(scope='module')
def work_dir(call, tmp_path_factory):
    """A work folder trained by two processes over gloo, in mixed precision."""
    folder = tmp_path_factory.mktemp('two')
    call('dist_train.sh', '2', '--work-dir', str(folder), '--amp', '--seed', '3')
    return folder


def test_two_processes_train_all_stages(work_dir):
    assert [stage for stage in ('cls', 'seg', 'joint') if (work_dir / stage / 'stage.json').exists()] == [
        'cls',
        'seg',
        'joint',
    ]


def start_as_torch_does(words):
    """Do what ``python -m torch.distributed.run`` does, which took part in the training above."""
    assert words[:2] == ['-m', 'torch.distributed.run']
    args = parse_args(words[2:])
    together = {
        'WORLD_SIZE': args.nproc_per_node,
        'MASTER_ADDR': args.master_addr,
        'MASTER_PORT': str(args.master_port),
    }
    programs = [
        forked.Program(
            args.training_script, *args.training_script_args, environment={**together, 'RANK': rank, 'LOCAL_RANK': rank}
        )
        for rank in map(str, range(int(args.nproc_per_node)))
    ]
    for ended in [program.wait() for program in programs]:
        assert ended.returncode == 0, ended.stderr[-3000:]


def test_two_processes_measure_what_one_does(call, work_dir, tmp_path):
    table = call('test.py', str(work_dir), '--work-dir', str(tmp_path / 'one'), '--no-report')
    (tmp_path / 'python').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'python').chmod(0o755)
    words = call('dist_test.sh', str(work_dir), '2', '--work-dir', str(tmp_path / 'two'), python=tmp_path)
    start_as_torch_does(words.splitlines())
    results = json.loads((tmp_path / 'one/results.json').read_text())
    assert {*KEYS} <= {*results}
    assert all(key in table for key in KEYS)
    assert (tmp_path / 'two/results.json').read_text() == (tmp_path / 'one/results.json').read_text()
    rows = list(csv.DictReader((tmp_path / 'one/per_image.csv').open()))
    assert len({row['image_id'] for row in rows}) == len(rows) == 11
    assert (tmp_path / 'two/per_image.csv').read_text() == (tmp_path / 'one/per_image.csv').read_text()
    assert (tmp_path / 'one/cases.png').stat().st_size > 10_000
    assert '</html>' in (tmp_path / 'two/report.html').read_text()
