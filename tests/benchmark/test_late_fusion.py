"""What age and sex add to diagnoses that are there, out of fold."""

import argparse
from runpy import run_path

import pytest

from mmskin.errors import MissingFile


def run(repository, *arguments):
    tool = run_path(str(repository / 'tools' / 'late_fusion.py'))
    parser = argparse.ArgumentParser()
    tool['add_arguments'](parser)
    tool['run'](parser.parse_args([*map(str, arguments)]))


def test_age_and_sex_help_the_diagnoses_of_the_passing_suite(repository, real_data, capsys):
    """The figures of docs/results.md; a table counted on the held-out fold as well would give .002 more mean AUC."""
    run(repository, repository / 'results/passing/none', '--data-root', real_data / 'isic2017_256')
    out = capsys.readouterr().out
    assert '2150 images in 5 folds, seeds: 1, told: age, sex' in out
    assert '| cls/AUC_mean | 0.869 | 0.846 | +0.023 (**+0.016 to +0.030**) |' in out


def test_a_folder_without_seeds_is_named(repository, tmp_path):
    with pytest.raises(MissingFile, match='holds no seed'):
        run(repository, tmp_path)
