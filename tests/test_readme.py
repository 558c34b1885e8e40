"""What README and the tutorial of a gate tell a user to do is done here, with the files as they stand there."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest
import torch

from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.registry import MODELS

TINY = [
    *(f'{name}_dataloader.dataset.pipeline.0.size=48' for name in ('train', 'val', 'test')),
    *(f'{name}_dataloader.num_workers=0' for name in ('train', 'val', 'test')),
    *(f'{name}_dataloader.persistent_workers=False' for name in ('train', 'val')),
    'train_dataloader.batch_size=4',
    'train_cfg.max_epochs=1',
]


@pytest.fixture(scope='module')
def readme(repository):
    return (repository / 'README.md').read_text()


@pytest.fixture
def package(repository, tmp_path):
    """A copy of examples/my_gate, in which an installation may leave what it will."""
    unpacked = shutil.ignore_patterns('__pycache__', '*.egg-info', 'build', 'data', 'work_dirs')
    return shutil.copytree(repository / 'examples' / 'my_gate', tmp_path / 'my_gate', ignore=unpacked)


@pytest.fixture
def python(tmp_path):
    """The Python of a new environment that sees the packages of this one, mmskin among them, but not this folder."""
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(tmp_path / 'venv')], check=True)
    python = tmp_path / 'venv' / 'bin' / 'python'
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, '-c', code], check=True, capture_output=True, text=True).stdout.strip()
    ours = sysconfig.get_path('purelib')
    with open(f'{site}/ours.pth', 'w') as file:  # addsitedir, unlike a bare path, follows an editable mmskin
        file.write(f'import site; site.addsitedir({ours!r})\n')
    return python


def test_it_sells_in_one_screen(readme):
    assert len(readme.split()) <= 700


def test_the_gate_that_it_shows_is_one(readme, monkeypatch):
    """It gives rates, which learn."""
    MODELS.import_from_location()  # what the first look-up registers stays
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))  # others register it, too
    (code,) = (block for block in re.findall(r'```python\n(.*?)```', readme, flags=re.DOTALL) if 'HardGate' in block)
    exec(code, {})
    gate = MODELS.build(dict(type='HardGate', in_channels=2, out_channels=3))
    rates = gate(torch.randn(4, 2, 5, 5))
    assert rates.shape == (4, 3, 5, 5)
    assert 0 <= rates.min() <= rates.max() <= 1
    rates.sum().backward()
    assert gate.conv.weight.grad.any()


def test_the_package_is_shown_as_it_is(repository):
    """The tutorial shows what matters of two files; it leads to the package itself."""
    tutorial = (repository / 'docs/tutorials/own_gate.md').read_text()
    shown = dict(re.findall(r'`(examples/my_gate/[\w/.]+)`[^\n]*\n\n```\w+\n(.*?)```', tutorial, flags=re.DOTALL))
    assert {*shown} == {'examples/my_gate/my_gate/__init__.py', 'examples/my_gate/my_config.py'}
    for name, text in shown.items():
        assert (repository / name).read_text().endswith(text)


def test_a_gate_of_ones_own(package):
    """Without an installation the package is found beside the config."""
    model = MODELS.build(load_config(package / 'my_config.py').model)
    gates = [module for name, module in model.named_modules() if name.endswith('.gate')]
    assert [type(gate).__name__ for gate in gates] == ['TemperatureGate', 'TemperatureGate']
    assert [gate.log_temperature.exp().item() for gate in gates] == pytest.approx([0.5, 0.5])


@pytest.mark.long
def test_the_package_installs_tests_and_trains(package, python, tmp_path):
    """The tutorial's commands, with options that make the training small."""
    SyntheticLesions(seed=5, shape=(48, 64)).write(package / 'data' / 'synthetic', num_train=8, num_val=3, num_test=3)

    def call(*command, folder=package):
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
        run = subprocess.run([python, '-m', *command], cwd=folder, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
        return run.stdout

    call('pip', 'install', '--no-index', '--no-build-isolation', '.[tests]')
    assert 'TestTemperatureGate' in call('pytest', '-v', 'tests', '-p', 'no:cacheprovider')
    shutil.rmtree(package / 'my_gate')  # what is installed has to do
    call('mmskin', 'train', 'my_config.py', '--cfg-options', *TINY)
    call('mmskin', 'test', 'my_config.py', 'work_dirs/my_config', '--cfg-options', *TINY)
    assert 'seg/JA' in json.loads((package / 'work_dirs/my_config/results.json').read_text())


def test_commands_name_files_that_exist(readme, repository):
    paths = set(re.findall(r'\b(?:configs|tools|suites|speed|docs|mmskin)/[\w/]+\.(?:py|sh|png|md)', readme))
    assert paths
    assert [path for path in sorted(paths) if not (repository / path).is_file()] == []
