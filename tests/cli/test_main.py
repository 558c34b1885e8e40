"""The command itself: what it lists, what it answers, and that asking it costs nothing."""

import argparse
import pkgutil
import subprocess
import sys

import pytest

import mmskin.cli
from mmskin.cli import commands, main

HEAVY = ('torch', 'mmengine', 'mmcv', 'numpy', 'cv2', 'PIL', 'rich')


def test_help_lists_every_command_with_its_first_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(['--help'])
    assert stop.value.code == 0
    text = ' '.join(capsys.readouterr().out.split())
    assert {'train', 'test', 'benchmark'} <= {*commands()}
    for name, command in commands().items():
        assert f'{name} {command.__doc__.splitlines()[0]}' in text


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
