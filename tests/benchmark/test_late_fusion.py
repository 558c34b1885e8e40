"""What age and sex add to diagnoses that are there, out of fold."""

import argparse
from runpy import run_path

import numpy as np
import pytest

from mmskin.errors import MissingFile, Mistake
from mmskin.evaluation.per_image import PerImageTable, write_results
from mmskin.files import write_csv


def run(repository, *arguments):
    tool = run_path(str(repository / 'tools' / 'late_fusion.py'))
    parser = argparse.ArgumentParser()
    tool['add_arguments'](parser)
    tool['run'](parser.parse_args([*map(str, arguments)]))


def test_age_and_sex_help_the_diagnoses_of_the_passing_suite(repository, real_data, capsys):
    """The figures of docs/results.md; a table counted on the held-out fold as well would give .002 more mean AUC."""
    run(repository, repository / 'results/passing/none', '--data-root', real_data / 'isic2017_256')
    out = capsys.readouterr().out
    assert '2150 images in 5 folds, seeds: 3, told: age, sex' in out
    assert '| cls/AUC_mean | 0.871 | 0.849 | +0.023 (**+0.016 to +0.029**) |' in out


def test_a_seed_that_lacks_folds_is_left_out(repository, real_data, tmp_path, capsys):
    results = repository / 'results/passing'
    (tmp_path / 'none/seed1').mkdir(parents=True)
    (tmp_path / 'folds.csv').symlink_to(results / 'folds.csv')
    (tmp_path / 'none/seed0').symlink_to(results / 'none/seed0')
    (tmp_path / 'none/seed1/fold0').symlink_to(results / 'none/seed1/fold0')
    run(repository, tmp_path / 'none', '--data-root', real_data / 'isic2017_256')
    out = capsys.readouterr().out
    assert 'left out, since not all folds are there: seed1' in out and 'seeds: 1' in out


def test_a_folder_without_seeds_is_named(repository, tmp_path):
    write_csv(tmp_path / 'folds.csv', [('image_id', 'fold', 'group'), ('a', 0, 'a'), ('b', 1, 'b')])
    (tmp_path / 'none').mkdir()
    with pytest.raises(MissingFile, match='needs a seed'):
        run(repository, tmp_path / 'none')


@pytest.mark.parametrize(
    ('folds', 'tested', 'message'),
    [
        ('aabb', ['aa', 'bb'], 'a: has no diagnoses to add to'),
        ('aabb', ['aa', ''], 'needs a seed.*all of folds.csv'),
        ('aaaa', ['aaaa'], 'two folds or more'),
        ('abab', ['aa', 'bb'], 'fold0: i. is in it or, by folds.csv, should be'),
        ('aabb', ['aa', 'aa'], 'fold1: i. is in it or, by folds.csv, should be'),
        ('aabb', ['aa', 'b'], 'fold1: i3 is in it or, by folds.csv, should be'),
    ],
)
def test_folds_that_are_not_those_of_the_table_are_refused(repository, tmp_path, folds, tested, message):
    rows = [(f'i{number}', 'ab'.index(fold), f'i{number}') for number, fold in enumerate(folds)]
    write_csv(tmp_path / 'folds.csv', [('image_id', 'fold', 'group'), *rows])
    for number, part in enumerate(tested):
        if part:
            first = 2 * 'ab'.index(part[0])
            ids = [f'i{first + index}' for index in range(len(part))]
            table = PerImageTable(ids, {'seg/JA': np.ones(len(ids))})
            write_results(tmp_path / f'a/seed0/fold{number}', {'seg/JA': 1.0}, table)
    with pytest.raises(Mistake, match=message):
        run(repository, tmp_path / 'a')


def test_an_image_that_folds_list_twice_is_refused(repository, tmp_path):
    write_csv(tmp_path / 'folds.csv', [('image_id', 'fold', 'group'), ('a', 0, 'a'), ('b', 1, 'b'), ('a', 1, 'a')])
    with pytest.raises(Mistake, match='lists a twice'):
        run(repository, tmp_path / 'none')
