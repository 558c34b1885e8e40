"""Two tests of the same images, compared."""

import argparse
from runpy import run_path

import numpy as np
import pytest

from mmskin.benchmark.fingerprint import folds_digest
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable, write_results
from mmskin.files import write_csv, write_note


def run(repository, *folders):
    tool = run_path(str(repository / 'tools' / 'compare_tests.py'))
    parser = argparse.ArgumentParser()
    tool['add_arguments'](parser)
    tool['run'](parser.parse_args([*map(str, folders)]))


def test_the_peer_of_the_results_page(repository, capsys):
    """The figures of docs/results.md."""
    run(repository, repository / 'results/validation/lite0_image_alone', repository / 'results/validation/smp')
    rows = {
        line.split('|')[1].strip(): line.split('|')[2:5] for line in capsys.readouterr().out.splitlines() if '|' in line
    }
    assert [cell.strip() for cell in rows['seg/JA']] == ['0.802', '0.773', '+0.029 (**+0.016 to +0.043**)']
    assert rows['cls/AUC_mean'][2].strip() == '+0.013 (-0.012 to +0.043)'


def test_rows_in_another_order_are_paired_and_other_images_refused(repository, tmp_path, capsys):
    table = PerImageTable(['a', 'b', 'c'], {'seg/JA': np.array([0.1, 0.5, 0.9])})
    write_results(tmp_path / 'first', {'seg/JA': 0.5}, table)
    write_results(tmp_path / 'second', {'seg/JA': 0.4}, table.aligned(['c', 'a', 'b']))
    write_results(tmp_path / 'other', {'seg/JA': 0.4}, PerImageTable(['a', 'b', 'd'], table.columns))
    run(repository, tmp_path / 'first', tmp_path / 'second')
    assert '| seg/JA | 0.500 | 0.500 | 0.000 (0.000 to 0.000) |' in capsys.readouterr().out
    with pytest.raises(Mistake, match='two tests list different images'):
        run(repository, tmp_path / 'first', tmp_path / 'other')


def test_another_truth_is_refused_and_what_is_left_out_named(repository, tmp_path, capsys):
    columns = {
        'cls/gt_label': np.array([0.0, 1.0, 1.0]),
        'cls/score_a': np.array([0.9, 0.2, 0.6]),
        'cls/score_b': np.array([0.1, 0.8, 0.4]),
        'cls/pred_label': np.array([0.0, 1.0, 0.0]),
        'seg/JA': np.full(3, np.nan),
    }
    swapped = {name: columns[name] for name in ('cls/gt_label', 'cls/score_b', 'cls/score_a', 'cls/pred_label')}
    for name, changed in (
        ('first', columns),
        ('relabelled', {**columns, 'cls/gt_label': np.array([0.0, 1.0, 0.0])}),
        ('swapped', swapped),
        ('outlines', {'seg/DI': np.ones(3)}),
    ):
        metrics = {'cls/AC': 0.5, 'seg/JA': float('nan'), 'cls/nothing': 1.0}
        write_results(tmp_path / name, metrics, PerImageTable(['a', 'b', 'c'], changed))
    run(repository, tmp_path / 'first', tmp_path / 'first')
    out = capsys.readouterr().out
    assert '| cls/AC | 0.667 | 0.667 |' in out and 'nan' not in out
    assert 'undefined: cls/nothing, seg/JA.\n' in out
    assert 'first: expected calibration error 0.300; the temperature that makes these images most likely is 0.70' in out
    for name, message in (
        ('relabelled', 'c has another cls/gt_label in the other test'),
        ('swapped', 'cls has the classes a, b in one test, and b, a in the other'),
        ('outlines', 'no metric in common'),
    ):
        with pytest.raises(Mistake, match=message):
            run(repository, tmp_path / 'first', tmp_path / name)


def test_a_network_averaged_with_another_over_folds(repository, tmp_path, capsys):
    """Each network errs on one image of its own; their mean is right on all."""
    write_csv(tmp_path / 'folds.csv', [('image_id', 'fold', 'group'), ('a', 0, 'a'), ('b', 0, 'b'), ('c', 1, 'b')])
    of_b = {'one': [0.1, 0.8, 0.45], 'two': [0.6, 0.9, 0.9], 'none': None}
    for name, scores in of_b.items():
        for fold, images in enumerate([slice(0, 2), slice(2, 3)]):
            columns = {'seg/JA': np.ones(3)}
            if scores:
                columns = {
                    'cls/gt_label': np.array([0.0, 1.0, 1.0]),
                    'cls/score_a': 1 - np.array(scores),
                    'cls/score_b': np.array(scores),
                    'cls/pred_label': np.array(scores).round(),
                }
            table = PerImageTable(['a', 'b', 'c'][images], {key: value[images] for key, value in columns.items()})
            write_results(tmp_path / name / 'seed0' / f'fold{fold}', {'cls/AC': 0.5}, table)
    one, two, none = (tmp_path / name / 'seed0' for name in of_b)
    run(repository, one, one, '--average-with', two)
    out = capsys.readouterr().out
    assert '3 images in 2 folds' in out and '| cls/AC | 1.000 | 0.667 | +0.333' in out
    with pytest.raises(Mistake, match='none.seed0: has no diagnoses to average'):
        run(repository, one, one, '--average-with', none)


def test_folds_or_groups_that_were_edited_since_are_refused(repository, tmp_path, capsys):
    head = ('image_id', 'fold', 'group')
    write_csv(tmp_path / 'folds.csv', [head, ('a', 0, 'a'), ('b', 0, 'b')])
    fold = tmp_path / 'one' / 'seed0' / 'fold0'
    write_results(fold, {'seg/JA': 1.0}, PerImageTable(['a', 'b'], {'seg/JA': np.ones(2)}))
    write_note(fold / 'run.json', {'plan': {'fingerprints': {'folds': folds_digest(tmp_path / 'folds.csv')}}})
    run(repository, fold.parent, fold.parent)
    assert '2 images in 1 folds' in capsys.readouterr().out
    write_csv(tmp_path / 'folds.csv', [head, ('a', 0, 'a'), ('b', 0, 'a')])
    with pytest.raises(Mistake, match=r'folds\.csv: has other folds or groups than the results'):
        run(repository, fold.parent, fold.parent)


def test_a_table_of_another_run_is_refused(repository, tmp_path):
    for name, overlap in (('one', 1.0), ('two', 0.5)):
        write_results(tmp_path / name, {'seg/JA': overlap}, PerImageTable(['a', 'b'], {'seg/JA': np.full(2, overlap)}))
        write_note(tmp_path / name / 'run.json', {'results': {'seg/JA': overlap}})
    run(repository, tmp_path / 'one', tmp_path / 'two')
    for name in ('results.json', 'per_image.csv'):
        (tmp_path / 'one' / name).write_bytes((tmp_path / 'two' / name).read_bytes())
    with pytest.raises(Mistake, match=r'one: results\.json is of another test than run\.json; restore both; or delete'):
        run(repository, tmp_path / 'one', tmp_path / 'two')


def test_the_pair_of_networks_of_the_results_page(repository, capsys):
    """The figures of docs/results.md by which an ensemble ships."""
    results = repository / 'results/passing'
    run(repository, results / 'none/seed0', results / 'none/seed0', '--average-with', results / 'start/seed1')
    out = capsys.readouterr().out
    assert '2150 images in 5 folds' in out and '| cls/AUC_mean | 0.870 | 0.846 | +0.024 (**+0.017 to +0.032**) |' in out


def test_class_weights_taken_out_of_the_probabilities(repository, capsys):
    """The figures of docs/results.md by which the network that ships divides them out."""
    test = repository / 'results/passing/slow_diagnosis_slow_refit/seed2'
    run(repository, test, test, '--undo-class-weight', '1.4', '.8', '1.7')
    out = capsys.readouterr().out
    assert '| cls/AC | 0.762 | 0.751 | +0.012 (**+0.0005 to +0.0230**) |' in out
    for weights in (('1', '2'), ('1', '0', '2')):
        with pytest.raises(Mistake, match='--undo-class-weight: give a number > 0 for each of the classes: melanoma,'):
            run(repository, test, test, '--undo-class-weight', *weights)
