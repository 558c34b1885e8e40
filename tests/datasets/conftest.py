"""Folders that the dataset tests read, and spoil."""

import shutil
from pathlib import Path

import pytest

from mmskin.datasets.synthetic import SyntheticLesions

SHARED_DATA = Path(__file__).parents[3] / 'shared' / 'data'


@pytest.fixture(scope='session')
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp('synthetic') / 'set'
    SyntheticLesions(seed=3, shape=(48, 64)).write(root, num_train=6, num_val=3, num_test=3)
    return root


@pytest.fixture
def root(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / 'set')


@pytest.fixture
def real_data():
    """A function from a folder's name to its path; the test skips where the real data is not there."""

    def find(name):
        if not (SHARED_DATA / name).is_dir():
            pytest.skip(f'no real data: {name} is looked for in ../shared/data')
        return SHARED_DATA / name

    return find
