"""A user's folder, in which the documentation's commands find what they name, in small."""

import hashlib
import os
import re
import shutil
import socket
import sys
import zipfile
from contextlib import ExitStack
from pathlib import Path

import cv2
import pytest
from narrow import SLIM

import mmskin.inference.exported  # noqa: F401 (registers a network, which is not to be forgotten after a page)
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS

DATA_FOLDERS = ('DATA', 'NATIVE', 'data/isic2017', 'data/isic2017_256', 'data/synthetic')
SRUN = '#!/bin/sh\nprintf "%s\\n" "$@" > srun.txt\n'


@pytest.fixture(scope='session')
def tiny_data(tmp_path_factory):
    """A set in the challenge's layout with a handful of images of 64 by 48 pixels."""
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    SyntheticLesions(seed=5, shape=(48, 64)).write(root, num_train=8, num_val=6, num_test=6)
    return root


@pytest.fixture(scope='session')
def trained():
    """Work folders of trainings that some page has done already, by the words of the command."""
    return {}


@pytest.fixture
def work_dirs(trained, tmp_path_factory):
    """A folder of trainings; those that pages share outlive the test."""
    folder = tmp_path_factory.mktemp('work_dirs')
    yield folder
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and not any(one.is_relative_to(path) for one in trained.values()):
            shutil.rmtree(path)


@pytest.fixture
def user_folder(repository, tiny_data, work_dirs, tmp_path, monkeypatch):
    """A checkout as far as commands see it, with data, photographs and a Slurm that only notes what it was told."""
    folder = tmp_path / 'user'
    folder.mkdir()
    (folder / 'work_dirs').symlink_to(work_dirs)
    for name in ('tools', 'docs', 'requirements', 'mmskin', 'Makefile', 'setup.py'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(repository / name)
    for name in ('suites', 'speed', 'configs'):
        shutil.copytree(repository / name, folder / name)
    shrink(folder / 'configs' / 'fpm')
    shutil.copytree(repository / 'examples', folder / 'examples', ignore=shutil.ignore_patterns('*.egg-info', 'data'))
    for name in DATA_FOLDERS:
        shutil.copytree(tiny_data, folder / name)
    for name, part in (('outlined', '*Part3*'), ('diagnosed', '*Part1*')):
        shutil.copytree(tiny_data, folder / 'data' / name, ignore=shutil.ignore_patterns(part))
    paint_photographs(folder)
    pack_ham10000(folder / 'downloads')
    shutil.copytree(folder / 'folder', folder / 'ARCHIVE')
    (folder / 'bin').mkdir()
    (folder / 'bin' / 'srun').write_text(SRUN)
    (folder / 'bin' / 'srun').chmod(0o755)
    places = [str(folder / 'bin'), str(Path(sys.executable).parent), os.environ['PATH']]
    monkeypatch.setenv('PATH', os.pathsep.join(places))
    cache = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    monkeypatch.setenv('XDG_CACHE_HOME', str(cache))  # what is prepared once on a machine
    monkeypatch.setenv('HOME', str(folder))
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        monkeypatch.setenv('PORT', str(probe.getsockname()[1]))  # for the processes of tools/dist_train.sh
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.setenv('PYTHONWARNINGS', 'ignore')
    monkeypatch.chdir(folder)
    return folder


def shrink(folder):
    """Slim the demo's network, and give it to the paper's config, with two stages; test_configs.py builds the real."""
    (network,) = re.findall(r'^model = dict\(.*?^\)', (folder / 'r18_synthetic.py').read_text(), re.M | re.S)
    keys = [(option.split('.'), value) for option, value in SLIM.items()]
    slim = [f'{first}{"".join(f"[{key!r}]" for key in rest)} = {value}' for (first, *rest), value in keys]
    with (folder / 'r18_synthetic.py').open('a') as demo, (folder / 'r101_isic2017.py').open('a') as paper:
        demo.write('\n'.join(['', *slim, '']))
        paper.write('\n'.join(['', network, *slim, 'stages = stages[::2]', '']))


def pack_ham10000(folder):
    """A handful of images with masks and the table in archives as HAM10000's, and their hashes."""
    painter = SyntheticLesions(seed=2, shape=(45, 60))
    classes = ('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc')
    rows = ['lesion_id,image_id,dx,dx_type,age,sex,localization']
    folder.mkdir()
    names = ('HAM10000_images_part_1', 'HAM10000_images_part_2', 'HAM10000_segmentations_lesion_tschandl')
    with ExitStack() as stack:
        zips = [stack.enter_context(zipfile.ZipFile(folder / f'{name}.zip', 'w')) for name in names]
        for number in range(42):
            image, mask, _ = painter.sample('train', number)
            image_id = f'ISIC_{24306 + number:07}'
            zips[number % 2].writestr(f'{image_id}.jpg', cv2.imencode('.jpg', image[..., ::-1])[1].tobytes())
            content = cv2.imencode('.png', mask * 255)[1].tobytes()
            zips[2].writestr(f'{names[2]}/{image_id}_segmentation.png', content)
            rows.append(f'HAM_{number:07},{image_id},{classes[number % 7]},histo,80.0,male,scalp')
    (folder / 'HAM10000_metadata.csv').write_text('\n'.join(rows) + '\n')
    sums = [f'{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n' for path in sorted(folder.iterdir())]
    (folder / 'sums').write_text(''.join(sums))


def paint_photographs(folder):
    """photo.jpg, two more in each of some folders, and the images and masks of a table."""
    names = ['photo.jpg', 'folder/a.jpg', 'more/b.png', 'more/below/c.png', 'photos/d.jpg']
    names += [f'data/lesions/images/{number:04}.jpg' for number in range(1, 13)]
    painter = SyntheticLesions(seed=1, shape=(96, 128))
    for number, name in enumerate(names):
        image, mask, _ = painter.sample('train', number)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), image[..., ::-1])
        if 'lesions' in name:
            path = folder / name.replace('images', 'masks').replace('.jpg', '.png')
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), mask * 255)


@pytest.fixture(autouse=True)
def registries_as_they_were(monkeypatch, tmp_path):
    """What the documentation's examples import and register is forgotten after each test."""
    for registry in (DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS):
        registry.import_from_location()
        monkeypatch.setattr(registry, '_module_dict', dict(registry._module_dict))
    monkeypatch.setattr(sys, 'path', [*sys.path])
    yield
    for name, module in [*sys.modules.items()]:
        if str(getattr(module, '__file__', None)).startswith(str(tmp_path)):
            del sys.modules[name]
