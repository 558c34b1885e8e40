"""The command itself: what it lists, what it answers, and that asking it costs nothing."""

import argparse
import io
import os
import pkgutil
import signal
import subprocess
import sys

import pytest
import torch

import mmskin.cli
from mmskin.cli import commands, main
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.registry import MODELS

HEAVY = ('torch', 'mmengine', 'mmcv', 'numpy', 'cv2', 'PIL', 'rich')


def test_help_lists_every_command_with_its_first_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    assert stop.value.code == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert {'train', 'test', 'benchmark'} <= {*commands()}
    for name, command in commands().items():
        assert f'{name} {command.__doc__.splitlines()[0]}' in text


def test_names_that_the_terminal_cannot_show_are_spelt_out(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode('é'.encode() + b'\xff')
    folder.mkdir()
    said = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(said, 'ascii'))
    assert main(['models', str(folder)]) == 0
    assert rf'{tmp_path}/\xe9\udcff'.encode() in said.getvalue()


def test_help_imports_nothing_heavy():
    code = f"""
import sys
from mmskin.cli import main
try:
    main(['--help'])
finally:
    assert not {set(HEAVY)} & {{*sys.modules}}, {set(HEAVY)} & {{*sys.modules}}
"""
    subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


@pytest.mark.parametrize('name', [module.name for module in pkgutil.iter_modules(mmskin.cli.__path__)])
def test_a_command_helps(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, '--help'])
    assert stop.value.code == 0
    assert f'usage: mmskin {name}' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [[], ['nope'], ['train'], ['--nope']])
def test_wrong_usage_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert 'usage: mmskin' in capsys.readouterr().err


def test_the_status_is_the_commands_own(monkeypatch):
    command = argparse.Namespace(
        __doc__='A stub.', add_arguments=lambda parser: parser.add_argument('--n', type=int), run=lambda args: args.n
    )
    monkeypatch.setattr(mmskin.cli, 'commands', lambda: {'stub': command})
    assert main(['stub', '--n', '3']) == 3
    assert main(['stub']) == 0


@pytest.mark.parametrize(
    'arguments',
    [
        ['train', 'nope.py'],
        ['test', 'nope.py', 'nope'],
        ['gates', 'nope.py', 'nope'],
        ['export', 'nope', '--out', 'nope.onnx'],
        ['report', 'nope'],
        ['benchmark', 'nope.py'],
    ],
)
def test_a_mistyped_name_is_answered_in_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f'mmskin {arguments[0]}: error: nope')
    assert said.count('\n') == 1


def test_a_fault_keeps_its_traceback(monkeypatch):
    """Whoever writes a plugin needs to see where it fails."""
    command = argparse.Namespace(__doc__='A stub.', add_arguments=lambda parser: None, run=lambda args: int('seven'))
    monkeypatch.setattr(mmskin.cli, 'commands', lambda: {'stub': command})
    with pytest.raises(ValueError, match='seven'):
        main(['stub'])


def test_an_interrupt_while_a_command_is_imported_leaves_no_traceback():
    code = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == 'mmskin.errors':
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
from mmskin.__main__ import run
sys.exit(run())
"""
    done = subprocess.run([sys.executable, '-c', code, 'list'], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, '', '')


def test_an_interrupt_that_python_wraps_is_answered_in_one_line(monkeypatch, capsys):
    def run(args):
        raise RuntimeError('Error calling __set_name__') from KeyboardInterrupt()

    command = argparse.Namespace(__doc__='A stub.', add_arguments=lambda parser: None, run=run)
    monkeypatch.setattr(mmskin.cli, 'commands', lambda: {'stub': command})
    assert main(['stub']) == 130
    assert capsys.readouterr().err == 'mmskin stub: interrupted\n'


def test_shipped_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config('configs/fpm/r18_synthetic.py').model.type == 'MultiTaskModel'


def test_a_table_to_calibrate_on_is_looked_at_before_the_test(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ['test', 'configs/fpm/r18_synthetic.py', 'nope', '--calibrate-on', 'nope.csv']
    assert main(arguments) == 2
    assert 'nope.csv' in capsys.readouterr().err


def test_a_table_of_the_same_images_costs_no_report(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    SyntheticLesions(seed=5, shape=(48, 64)).write('data/synthetic', num_train=2, num_val=2, num_test=3)
    config = str(repository / 'configs/fpm/r18_synthetic.py')
    torch.save(MODELS.build(load_config(config).model).state_dict(), 'random.pth')
    arguments = ['test', config, 'random.pth', '--work-dir', 'tested']
    assert main([*arguments, '--no-report']) == 0
    assert not (tmp_path / 'tested/report.html').exists()
    assert main([*arguments, '--calibrate-on', 'tested/per_image.csv']) == 2
    assert 'fit the temperature on other images' in capsys.readouterr().err
    assert (tmp_path / 'tested/report.html').is_file()
