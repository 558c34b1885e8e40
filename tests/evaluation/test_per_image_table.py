"""What a test leaves: ``per_image.csv`` and ``results.json``, and what is refused when they are read again."""

import csv
import json
import math

import numpy as np
import pytest
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageMetric, PerImageTable, ResultsEvaluator, write_results
from mmskin.registry import METRICS

METRICS_OF_A_TEST = ['SegmentationMetric', 'ClassificationMetric', 'ISIC2017ClassificationMetric']


@pytest.fixture
def table(make_sample, evaluate):
    """Two images: one with both tasks and no background, and one that has only a prediction."""
    samples = [
        make_sample('b', 1, [0.25, 0.5, 0.25], pred=[[1, 1]], gt=[[1, 1]]),
        make_sample('a', None, [0.5, 0.25, 0.25]),
    ]
    _, metrics = evaluate(METRICS_OF_A_TEST, samples)
    return PerImageTable.of_metrics([*metrics, object()])


def test_rows_are_joined_and_sorted(table, tmp_path):
    write_results(tmp_path / 'new', {'seg/JA': np.float64(0.5), 'cls/AUC_mean': math.nan, 'cls/AC': 1}, table)
    with open(tmp_path / 'new' / 'per_image.csv', newline='') as file:
        first, second = csv.DictReader(file)
    assert [first['image_id'], second['image_id']] == ['a', 'b']
    assert first['cls/gt_label'] == '' and first['cls/pred_label'] == '0' and first['seg/JA'] == ''
    assert second['cls/score_nevus'] == '0.5' and second['seg/JA'] == '1.0'
    assert second['seg/specificity'] == ''  # undefined: no background
    results = json.loads((tmp_path / 'new' / 'results.json').read_text(), parse_constant=lambda name: 1 / 0)
    assert results.pop('per_image')['rows'] == 2
    assert results.pop('sha256')
    assert results == {'cls/AC': 1.0, 'cls/AUC_mean': None, 'seg/JA': 0.5}


def test_what_is_written_is_read_again(table, tmp_path):
    write_results(tmp_path, {}, table)
    for found in (PerImageTable.read(tmp_path), PerImageTable.read(tmp_path / 'per_image.csv')):
        assert (found.image_ids, found.classes) == (['a', 'b'], ('melanoma', 'nevus', 'seborrheic_keratosis'))
        assert {*found.columns} == {*table.columns} and found.tasks == {'seg': 'segmentation', 'cls': 'classification'}
        np.testing.assert_array_equal(found.scores, [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
        np.testing.assert_array_equal(found.right, [np.nan, 1])
        np.testing.assert_array_equal(found.overlap['JA'], [np.nan, 1])


def test_results_kept_under_a_columns_former_name_are_read(repository):
    kept = repository / 'results/passing/none/seed0/fold0'
    assert 'lesion_share' in (kept / 'per_image.csv').read_text().splitlines()[0]
    found = PerImageTable.read(kept)  # which checks the digest
    assert found.outlined.all() and 0 < found.mask_share.min() < found.mask_share.max() < 1
    assert not [name for name in found.columns if 'lesion' in name]


def test_any_names(tmp_path):
    """Classes stay in the order of their labels, tasks have their own names, and words are not numbers."""
    ids = ['000123', 'nan', '=1+1', 'a,"b"\nc']
    classes = ['zoster', '10', '2', '-acne', 'a/b']
    columns = {'site/gt_label': np.array([0, 1, 2, np.nan]), 'site/pred_label': np.array([0.0, 0, 2, 4])}
    columns |= {f'site/score_{name}': np.full(4, index / 10) for index, name in enumerate(classes)}
    columns |= {'lesion/JA': np.ones(4), 'lesion/mask_share': np.arange(4.0), 'size/MAE_area': np.ones(4)}
    write_results(tmp_path, {}, PerImageTable(ids, columns))
    found = PerImageTable.read(tmp_path)
    assert (found.image_ids, found.classes) == (ids, tuple(classes))
    assert found.tasks == {'site': 'classification', 'lesion': 'segmentation', 'size': 'other'}
    assert (found.diagnosis, found.outline) == ('site', 'lesion')
    np.testing.assert_array_equal(found.right, [1, 0, 1, np.nan])
    assert {name: group.tolist() for name, group in found.size_groups.items()} == {
        'small': [True, True, False, False],
        'medium': [False, False, True, False],
        'large': [False, False, False, True],
    }


def test_rows_follow_the_ids():
    table = PerImageTable(['a', 'b', 'c'], {'seg/JA': np.array([0.1, 0.2, 0.3])})
    assert table.aligned(['c', 'a', 'b']).columns['seg/JA'].tolist() == [0.3, 0.1, 0.2]
    with pytest.raises(ValueError, match='list different images: c is in one only'):
        table.aligned(['a', 'b'])


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda text: ''.join(text.splitlines(keepends=True)[:-1]), r'was changed .* has 1 rows, and 2 were written'),
        (lambda text: text[:-1], 'was changed'),
        (lambda text: text.replace('0.25', '0.75', 1), 'was changed after the test; it has 2 rows'),
        (lambda text: text[:-9], 'was changed'),
        (lambda text: '', 'was changed'),
    ],
)
@pytest.mark.parametrize('name', ['', 'per_image.csv'])
def test_a_changed_table_is_refused(table, tmp_path, damage, message, name):
    write_results(tmp_path, {}, table)
    path = tmp_path / 'per_image.csv'
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=rf'per_image\.csv: {message}'):
        PerImageTable.read(tmp_path / name)


@pytest.mark.parametrize('text', ['{}', '[]', '{"per_image": 3}', '{"per_image": {"rows": 2}}', '{'])
def test_results_without_the_tables_digest_are_refused(table, tmp_path, text):
    write_results(tmp_path, {}, table)
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(ValueError, match=r'results\.json: '):
        PerImageTable.read(tmp_path)
    (tmp_path / 'results.json').unlink()
    with pytest.raises(FileNotFoundError, match=r'results\.json: no such file'):
        PerImageTable.read(tmp_path)
    assert len(PerImageTable.read(tmp_path / 'per_image.csv')) == 2  # a table that was handed on alone


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('image_id,cls/gt_label\na,melanoma\n', r'is not a per_image\.csv .*melanoma'),
        ('name,seg/JA\na,0.5\n', r'is not a per_image\.csv .*image_id'),
        ('image_id\n', 'lists no image'),
        ('image_id,seg/JA\na,0.5\na,0.6\n', 'lists an image twice'),
    ],
)
def test_another_table_is_named(tmp_path, text, message):
    with pytest.raises(FileNotFoundError, match=r'val\.csv: no such file; mmskin test'):
        PerImageTable.read(tmp_path / 'val.csv')
    (tmp_path / 'val.csv').write_text(text)
    with pytest.raises(ValueError, match=rf'val\.csv.* {message}'):
        PerImageTable.read(tmp_path / 'val.csv')


class Failing(BaseMetric):
    """Fails where it is told to."""

    default_prefix = 'failing'

    def __init__(self, where, optional, given=None):
        super().__init__()
        self.where, self.optional, self.given = where, optional, given

    def process(self, data_batch, data_samples):
        if self.where == 'process' or (self.where == 'second batch' and self.results):
            raise KeyError('a picture')
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        if self.where == 'compute_metrics':
            raise OverflowError('too large')
        return self.given


@pytest.mark.parametrize('where', ['process', 'compute_metrics'])
def test_numbers_are_written_whatever_an_optional_metric_does(random_samples, tmp_path, caplog, monkeypatch, where):
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handlers', [caplog.handler])
    evaluator = ResultsEvaluator([Failing(where, True), METRICS.build(dict(type='SegmentationMetric'))], tmp_path)
    evaluator.process(random_samples)
    results = evaluator.evaluate(len(random_samples))
    assert json.loads((tmp_path / 'results.json').read_text())['seg/JA'] == results['seg/JA']
    assert len(PerImageTable.read(tmp_path)) == len(random_samples)
    (warning,) = {text for text in caplog.messages if 'failed' in text}
    assert warning.startswith('Failing failed, and what it makes is missing')


@pytest.mark.parametrize(('labelled', 'left'), [(2, 'its metrics are of these'), (0, 'it has no metrics')])
def test_metrics_of_fewer_images_say_so(labelled, left, make_sample, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handlers', [caplog.handler])
    mask = np.eye(4)
    samples = [
        make_sample(f'{number}', number if number < labelled else None, [0.2, 0.3, 0.5], mask, mask)
        for number in range(3)
    ]
    kinds = ('ClassificationMetric', 'SegmentationMetric')
    evaluator = ResultsEvaluator([METRICS.build(dict(type=kind)) for kind in kinds], tmp_path)
    evaluator.dataset_meta = {'classes': ('a', 'b', 'c')}
    evaluator.process(samples)
    evaluator.evaluate(len(samples))
    assert [text for text in caplog.messages if 'ground truth' in text] == [
        f'cls: {labelled} of 3 images have ground truth; {left}'
    ]


@pytest.mark.parametrize(
    ('where', 'given', 'words'),
    [
        ('compute_metrics', None, 'too large'),
        ('second batch', {}, 'a picture'),
        ('', None, 'Failing: gives None; give numbers by their names'),
        ('', {'kind': 'text'}, "Failing: failing/kind is 'text'; give a number"),
        ('', {'curve': np.arange(3)}, 'Failing: failing/curve is .*; give a number'),
        ('', {'by class': {'a': 1.0}}, 'Failing: failing/by class is .*; give a number'),
        ('', {'many': 10**400}, 'Failing: failing/many is 10+; give a number'),
        ('', {1: 0.5}, 'Failing: a metric is named 1; give a text'),
        ('', {'JA': 1.0}, 'Failing: seg/JA is that of another metric; give it a prefix of its own'),
    ],
)
def test_a_metric_that_fails_ends_the_test_after_the_others_are_written(where, given, words, random_samples, tmp_path):
    metrics = [METRICS.build(dict(type='SegmentationMetric')), Failing(where, False, given)]
    metrics[1].prefix = 'seg' if given and 'JA' in given else 'failing'
    evaluator = ResultsEvaluator(metrics, tmp_path)
    for part in (random_samples[:3], random_samples[3:]):
        evaluator.process(part)
    with pytest.raises((OverflowError, KeyError, Mistake), match=words):
        evaluator.evaluate(len(random_samples))
    assert 'seg/JA' in json.loads((tmp_path / 'results.json').read_text())
    assert len(PerImageTable.read(tmp_path)) == len(random_samples)


@pytest.mark.parametrize(
    ('row', 'words'),
    [
        (None, 'Own: measures None; give numbers by their names'),
        ({'kind': 'text'}, "Own: kind is 'text'; give a number"),
        ({'curve': np.arange(3)}, 'Own: curve is .*; give a number'),
    ],
)
def test_a_row_that_would_cost_the_table(row, words, random_samples):
    class Own(PerImageMetric):
        def measure(self, sample):
            return row

        def summarize(self, rows):
            return {}

    with pytest.raises(Mistake, match=words):
        Own(task='own').process({}, [sample.to_dict() for sample in random_samples])


def test_a_metric_that_fails_at_the_first_batch_ends_the_test_at_once(random_samples, tmp_path):
    with pytest.raises(KeyError, match='a picture'):
        ResultsEvaluator([Failing('process', False)], tmp_path).process(random_samples)
