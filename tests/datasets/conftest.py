"""Folders that the dataset tests read, and spoil."""

import shutil

import pytest

from mmskin.datasets.synthetic import SyntheticLesions


@pytest.fixture(scope='session')
def pristine(tmp_path_factory):
    root = tmp_path_factory.mktemp('synthetic') / 'set'
    SyntheticLesions(seed=3, shape=(48, 64)).write(root, num_train=6, num_val=3, num_test=3)
    return root


@pytest.fixture
def root(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / 'set')
