"""What is published: names, versions, and a wheel that carries what an installed copy needs."""

import ast
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.metadata import requires, version

import pytest
import yaml
from mmengine.config import Config
from packaging.requirements import Requirement

import mmskin

PACKAGED = (
    'LICENSE',
    'MANIFEST.in',
    'model-index.yml',
    'README.md',
    'pyproject.toml',
    'setup.py',
    'configs',
    'mmskin',
    'requirements',
    'tools',
)
BUILD = 'import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))'
MODEL = ('config.py', 'weights.safetensors', 'README.md')
CACHES = shutil.ignore_patterns('__pycache__', '.mim')


def build(kind, tree, out):
    """Build an sdist or a wheel from ``tree`` and return its path."""
    command = [sys.executable, '-W', 'ignore', '-c', BUILD, f'build_{kind}', str(out)]
    output = subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout
    return out / output.strip().splitlines()[-1]


def files_below(folder):
    return {
        str(path.relative_to(folder))
        for path in folder.rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }


@pytest.fixture(scope='module')
def wheel(repository, tmp_path_factory):
    """An unpacked wheel, built from an sdist of a copy of the checkout, as an index would serve it."""
    folder = tmp_path_factory.mktemp('build')
    tree = folder / 'tree'
    tree.mkdir()
    for name in PACKAGED:
        source = repository / name
        (shutil.copytree(source, tree / name, ignore=CACHES) if source.is_dir() else shutil.copy(source, tree))
    for name in MODEL:
        (tree / 'mmskin' / 'zoo' / 'tried').mkdir(parents=True, exist_ok=True)
        (tree / 'mmskin' / 'zoo' / 'tried' / name).write_text('x = 1')
    with tarfile.open(build('sdist', tree, folder)) as archive:
        archive.extractall(folder, filter='data')
    with zipfile.ZipFile(build('wheel', folder / f'mmskin-{mmskin.__version__}', folder)) as archive:
        archive.extractall(folder / 'wheel')
    return folder / 'wheel'


def test_public_names():
    assert mmskin.__all__ == ['FailedImage', 'LesionInferencer', 'LesionPrediction', '__version__']
    for name in mmskin.__all__:
        assert hasattr(mmskin, name)


@pytest.fixture(scope='module')
def graph(repository):
    """What each folder or module of the package imports from others."""
    graph = {}
    for file in (repository / 'mmskin').rglob('*.py'):
        place = file.relative_to(repository / 'mmskin')
        if (
            place.parts[0] in ('.mim', 'configs', 'zoo')
            or place.stem in ('__init__', '__main__')
            and len(place.parts) == 1
        ):
            continue
        nodes = [*ast.walk(ast.parse(file.read_text()))]
        modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
        modules += [name.name for node in nodes if isinstance(node, ast.Import) for name in node.names]
        graph.setdefault(place.with_suffix('').parts[0], set()).update(
            name.split('.')[1] for name in modules if name.startswith('mmskin.')
        )
    assert {'cli', 'datasets', 'models', 'registry'} <= graph.keys()
    return {folder: others - {folder} for folder, others in graph.items()}


def test_no_folder_imports_one_that_imports_it(graph):
    """Through others neither: the graph of folders has an order, the one of DESIGN's layout."""
    assert [*TopologicalSorter(graph).static_order()]  # a cycle raises CycleError, which names it


def test_a_folder_says_who_calls_it(graph, repository):
    told = {}
    for folder in graph:
        if (opening := repository / 'mmskin' / folder / '__init__.py').is_file():
            text = ast.get_docstring(ast.parse(opening.read_text())) or ''
            told[folder] = re.findall(r'\w+', ''.join(re.findall(r'^Called by (.+)\.$', text, re.MULTILINE)))
    callers = {folder: sorted(other for other, names in graph.items() if folder in names) for folder in told}
    assert {folder: sorted({*names} - {'and'}) for folder, names in told.items()} == callers


@pytest.mark.parametrize('name', [module.name for module in pkgutil.walk_packages(mmskin.__path__, 'mmskin.')])
def test_every_module_can_be_imported(name):
    assert import_module(name)


@pytest.mark.parametrize('module', ['mmskin', 'mmskin.registry'])
def test_import_is_light(module):
    code = f"import sys, {module}; assert not {{'mmseg', 'mmpretrain', 'timm'}} & {{*sys.modules}}"
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_one_version(repository):
    citation = yaml.safe_load((repository / 'CITATION.cff').read_text())
    assert citation['version'] == mmskin.__version__
    if version('mmskin') != mmskin.__version__:
        pytest.fail('the installed mmskin is of another version: run make setup')


@pytest.mark.parametrize('folder', ['configs', 'tools'])
def test_wheel_carries(wheel, repository, folder):
    carried = files_below(wheel / 'mmskin' / '.mim' / folder)
    assert carried
    assert carried == files_below(repository / folder)


def test_wheel_is_typed_and_complete(wheel, repository):
    assert (wheel / 'mmskin' / 'py.typed').is_file()
    modules = {
        name for name in files_below(repository / 'mmskin') if name.endswith('.py') and not name.startswith('.mim')
    }
    assert modules <= files_below(wheel / 'mmskin')


def test_wheel_carries_the_models_that_ship(wheel, repository):
    tried = {f'tried/{name}' for name in MODEL}
    assert files_below(wheel / 'mmskin' / 'zoo') == files_below(repository / 'mmskin' / 'zoo') | tried


def test_wheel_states_requirements_version_and_licence(wheel):
    metadata = (wheel / f'mmskin-{mmskin.__version__}.dist-info' / 'METADATA').read_text()
    assert f'Version: {mmskin.__version__}\n' in metadata
    assert 'Requires-Dist: onedl-mmengine' in metadata
    assert re.search('License(-Expression)?: Apache-2.0', metadata)


def test_an_editable_install_is_a_path(wheel):
    """With an import hook instead, a clone's own folder ``mmskin`` hides the package from its parent folder."""
    tree = wheel.parent / 'tree'
    with zipfile.ZipFile(build('editable', tree, wheel.parent / 'tree')) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith('.pth')]
        assert archive.read(path).decode().strip() == str(tree)


def test_config_of_the_wheel_reads(wheel):
    config = next((wheel / 'mmskin' / '.mim' / 'configs' / 'fpm').glob('*.py'))
    assert Config.fromfile(str(config)).default_scope == 'mmskin'


def test_tool_of_the_wheel_runs(wheel, tmp_path):
    """In an empty folder, with the wheel's mmskin, as an installed copy would."""
    env = {**os.environ, 'PYTHONPATH': str(wheel)}
    command = [sys.executable, str(wheel / 'mmskin' / '.mim' / 'tools' / 'train.py'), '--help']
    assert (
        '--work-dir'
        in subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
    )


def test_every_requirement_has_a_tested_version(repository):
    lines = (repository / 'requirements' / 'constraints.txt').read_text().splitlines()
    tested = [Requirement(line) for line in lines if not line.startswith('#')]
    for python in ('3.10', '3.11', '3.12'):
        pinned = {line.name: line.specifier for line in tested if applies(line, python)}
        for requirement in map(Requirement, requires('mmskin')):
            specifier = pinned[requirement.name.lower()]
            assert requirement.specifier.contains(next(iter(specifier)).version)


def applies(requirement, python):
    return requirement.marker is None or requirement.marker.evaluate({'python_version': python})


def test_every_requirement_is_one(repository):
    files = sorted((repository / 'requirements').glob('*.txt'))
    assert files
    for file in files:
        lines = (line.partition('#')[0].strip() for line in file.read_text().splitlines())
        for line in filter(None, lines):
            Requirement(line)
