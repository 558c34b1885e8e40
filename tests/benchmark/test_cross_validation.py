"""A suite with folds: every image is held out once, and results outlive the networks."""

import shutil
from dataclasses import replace

import pytest

from mmskin.benchmark.collect import collect
from mmskin.benchmark.comparison import write_comparison
from mmskin.benchmark.power import power_report
from mmskin.benchmark.runs import check_suite, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.benchmark.workers import select_methods, work
from mmskin.evaluation.per_image import PerImageTable

pytestmark = pytest.mark.slow

FOLDS = "folds = dict(count=2, splits=['train', 'val'], groups='groups.csv')\nmargins = {'seg/JA': 1.0}\n"
STARTS = ("name='no passing'", "name='no passing', starts_from='gated sum'")


@pytest.fixture(scope='module')
def finished(tmp_path_factory, write_suite, data_root):
    """The runs of the suite in two folds with one seed, their results in a folder of their own."""
    folder = tmp_path_factory.mktemp('folds')
    (data_root / 'groups.csv').write_text('image_id,group\nSYN_0000000,a\nSYN_1000000,a\n')
    path = write_suite(folder / 'tiny.py')
    path.write_text(path.read_text().replace('seeds = [0, 1]', 'seeds = [0]').replace(*STARTS) + FOLDS)
    suite = read_suite(path, str(data_root))
    runs = runs_of(suite, folder / 'work', folder / 'results')
    check_suite(runs)
    work(runs)
    return runs


def test_every_image_is_held_out_once(finished):
    assert [run.name for run in finished if run.failed or not run.finished] == []
    ids = [
        PerImageTable.read(run.record / 'per_image.csv').image_ids for run in finished if run.method.name == 'gated sum'
    ]
    assert len(ids) == 2
    assert len({*ids[0]} | {*ids[1]}) == len(ids[0]) + len(ids[1]) == 11
    assert any({'SYN_0000000', 'SYN_1000000'} <= {*part} for part in ids)
    training = finished[0].config('train').train_dataloader.dataset
    assert (training.split, training.in_folds) == (['train', 'val'], [1])
    assert finished[0].config('train').val_dataloader is None


def test_the_report_is_of_all_images(finished, tmp_path):
    report = collect(finished[0].suite, finished, num_resamples=50)
    assert (report['images'], report['groups'], report['folds']) == (11, 10, 2)
    assert {row['verdict'] for row in report['differences'] if row['metric'] == 'seg/JA'} <= {
        'better',
        'worse',
        'equivalent within ±1',
    }
    assert 'verdict' in write_comparison(report, tmp_path).read_text()


def test_a_seed_with_some_folds_is_left_out_and_named(finished, tmp_path):
    suite = finished[0].suite
    runs = runs_of(suite, tmp_path / 'work', shutil.copytree(finished[0].results, tmp_path / 'results'))
    shutil.rmtree(next(run for run in runs if run.method.name == 'no passing').record)
    report = collect(suite, runs, num_resamples=2)
    assert report['partial'] == ['no passing, seed 0 (1 of 2 folds)']
    assert report['methods']['no passing']['seeds'] == {}
    assert 'finished**: no passing, seed 0 (1 of 2 folds).' in write_comparison(report, tmp_path).read_text()


@pytest.mark.parametrize('column', ['fold', 'group'])
def test_a_report_on_other_folds_or_groups_is_refused(column, finished, tmp_path):
    suite = finished[0].suite
    runs = runs_of(suite, tmp_path / 'work', shutil.copytree(finished[0].results, tmp_path / 'results'))
    table = runs[0].folds_file
    row = next(line for line in table.read_text().splitlines() if line.startswith('SYN_0000001,'))
    changed = row.replace(',0,', ',1,') if ',0,' in row else row.replace(',1,', ',0,')
    table.write_text(table.read_text().replace(row, f'{row}x' if column == 'group' else changed))
    with pytest.raises(ValueError, match=r'folds\.csv: has other folds or groups than the results'):
        collect(suite, runs, num_resamples=2)


def test_a_report_on_folds_that_are_dealt_otherwise_is_refused(finished, tmp_path):
    """The table of folds is as it was, and no longer what the suite says."""
    path = tmp_path / 'tiny.py'
    path.write_text((finished[0].root.parent / 'tiny.py').read_text().replace("'groups.csv'", "'duplicates'"))
    suite = read_suite(path, finished[0].suite.data_root)
    with pytest.raises(ValueError, match=r'fold0 was begun with other settings'):
        collect(suite, runs_of(suite, finished[0].root, finished[0].results), num_resamples=2)


def test_tables_of_another_run_are_refused(finished, tmp_path):
    suite = finished[0].suite
    runs = runs_of(suite, tmp_path / 'work', shutil.copytree(finished[0].results, tmp_path / 'results'))
    ours, theirs = (next(run for run in runs if run.method.name == name).record for name in ('gated sum', 'no passing'))
    for name in ('per_image.csv', 'results.json'):
        shutil.copy(theirs / name, ours / name)
    with pytest.raises(ValueError, match=r'fold0: results\.json is of another test than run\.json'):
        collect(suite, runs, num_resamples=2)


def test_a_later_session_goes_on_from_the_results(finished, tmp_path):
    """A network that is gone is trained again for the one that starts from it, and not tested again."""
    suite = finished[0].suite
    results = shutil.copytree(finished[0].results, tmp_path / 'results')
    runs = runs_of(suite, tmp_path / 'work', results)
    check_suite(runs)
    assert not any(run.is_open for run in runs)
    later = next(run for run in runs if run.method.name == 'no passing')
    shutil.rmtree(later.record)
    assert [run.name for run in runs if run.is_open] == ['gated sum, seed 0, fold 0', 'no passing, seed 0, fold 0']
    assert not any(run.is_open for run in select_methods(runs, ['gated sum']))  # which nobody else needs
    work(runs)
    assert all(run.finished and not run.failed for run in runs)
    assert {path.parent.name for path in (tmp_path / 'work').rglob('*.pth')} == {'train'}
    assert [path.parts[-2] for path in (tmp_path / 'work').rglob('test')] == ['fold0']
    collect(suite, runs, num_resamples=2)


def test_the_power_of_a_design_is_told_before_anything_trains(finished, tmp_path):
    suite = finished[0].suite
    assert '11 images in 2 folds' in power_report(suite, runs_of(suite, tmp_path))
    assumed = replace(suite.power, sd={'seg/JA': 0.1}, seed_sd={'seg/JA': 0.01})
    without = replace(suite, power=assumed, margins={'seg/JA': 0.0})
    assert '| 0.00 of none within ±0 |' in power_report(without, runs_of(without, tmp_path))


def test_a_method_that_chooses_by_validation_is_refused(finished, tmp_path):
    options = {'default_hooks.checkpoint.save_best': 'auto'}
    suite = read_suite(finished[0].root.parent / 'tiny.py', finished[0].suite.data_root, options)
    with pytest.raises(ValueError, match='chooses by validation'):
        check_suite(runs_of(suite, tmp_path))
