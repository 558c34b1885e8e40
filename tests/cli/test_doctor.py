"""``mmskin doctor``: what it finds, and that it notices what is wrong."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmskin
from mmskin import installation
from mmskin.cli import main
from mmskin.datasets.synthetic import SyntheticLesions


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    SyntheticLesions(seed=5, shape=(24, 32)).write(root, num_train=4, num_val=3, num_test=3)
    return root


@pytest.fixture
def zoo(model, monkeypatch, tmp_path):
    """A zoo with the small model as the default one."""
    shutil.copytree(model, tmp_path / 'zoo' / 'small')
    monkeypatch.setattr('mmskin.inference.zoo.ZOO', tmp_path / 'zoo')
    monkeypatch.setattr('mmskin.inference.zoo.DEFAULT_MODEL', 'small')
    return tmp_path / 'zoo' / 'small'


def test_all_well(zoo, data_root, capsys):
    status = main(['doctor', '--data-root', str(data_root)])
    output = capsys.readouterr().out
    assert (status, output.splitlines()[-1]) == (0, 'nothing is wrong')
    assert f'mmskin {mmskin.__version__} in {Path(mmskin.__file__).parent}' in output
    assert 'extras: ' in output
    assert f'torch {torch.__version__.split("+")[0]}' in output
    assert 'small: ' in output
    assert 'sha256 ' in output
    assert 'train: 4 images with masks, ' in output


def test_no_model(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr('mmskin.inference.zoo.ZOO', tmp_path)
    assert main(['doctor']) == 1
    assert 'lite0_isic2017 does not come with this copy' in capsys.readouterr().out


def test_a_model_that_was_changed(zoo):
    weights = zoo / 'weights.safetensors'
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert any('not those that were published' in problem for problem in installation.shipped().problems)


def test_data_with_a_gap(data_root, tmp_path):
    root = tmp_path / 'data'
    shutil.copytree(data_root, root)
    lost = next((root / 'ISIC-2017_Validation_Part1_GroundTruth').iterdir())
    lost.unlink()
    section = installation.data(root)
    assert [line.partition(':')[0] for line in section.lines] == ['train', 'test']
    (problem,) = section.problems
    assert lost.name.removesuffix('_segmentation.png') in problem


def test_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert installation.data(None).problems == []
    assert 'holds none of ISIC-2017_Training_Data' in installation.data('nowhere').problems[0]


def test_a_requirement_that_is_not_met(monkeypatch):
    wanted = ['numpy>=999', 'no-such-package', "pytest>=999; extra == 'tests'"]
    monkeypatch.setattr(installation.metadata, 'requires', lambda name: wanted)
    problems = installation.versions().problems
    assert [problem.split()[0] for problem in problems] == ['numpy', 'no-such-package']
    assert 'pip install "numpy>=999"' in problems[0]


def test_an_import_that_fails(monkeypatch):
    def broken(name):
        raise RuntimeError('operator torchvision::nms does not exist')

    monkeypatch.setattr(installation, 'import_module', broken)
    assert any('torchvision::nms' in problem for problem in installation.versions().problems)


def test_a_library_of_the_system_that_is_missing(tmp_path):
    """opencv-python on a server without libGL; everything else is still looked at."""
    (tmp_path / 'cv2.py').write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    code = f'import sys; sys.path.insert(0, {str(tmp_path)!r}); from mmskin.cli import main; sys.exit(main(["doctor"]))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert 'import cv2 fails: libGL.so.1: cannot open shared object file' in done.stdout
    assert 'CPU: ' in done.stdout
