import math
import pickle

import pytest

from mmskin.evaluation.per_image import Spool, mean_of_defined

METRICS = ['ClassificationMetric', 'SegmentationMetric', 'ISIC2017ClassificationMetric']
RESULTS_WANTED = {
    *('cls/AC', 'cls/mAP', 'cls/AUC_melanoma', 'cls/AUC_seborrheic_keratosis', 'cls/AUC_mean'),
    *('seg/JA', 'seg/DI', 'seg/AC', 'seg/sensitivity', 'seg/specificity'),
}


def test_mean_leaves_nan_out():
    assert mean_of_defined([1.0, math.nan, 2.0]) == 1.5
    assert math.isnan(mean_of_defined([math.nan]))
    assert math.isnan(mean_of_defined([]))


def test_all_results_are_there(random_samples, evaluate):
    assert set(evaluate(METRICS, random_samples)[0]) >= RESULTS_WANTED


def test_order_and_batches_change_no_digit(random_samples, evaluate):
    results, _ = evaluate(METRICS, random_samples)
    assert evaluate(METRICS, random_samples[::-1], batch_size=7)[0] == results


@pytest.mark.parametrize('world_size', [2, 3])
def test_processes_change_no_digit(random_samples, evaluate, monkeypatch, world_size):
    """Each process takes every n-th sample, the last ones again as padding; their rows are put back in turn."""
    expected, _ = evaluate(METRICS, random_samples)
    share = math.ceil(len(random_samples) / world_size)
    padded = [random_samples[i % len(random_samples)] for i in range(share * world_size)]

    def collect(rows, size, *args, **kwargs):
        parts = [rows[rank * share : (rank + 1) * share] for rank in range(world_size)]
        return [row for turn in zip(*parts, strict=True) for row in turn][:size]

    monkeypatch.setattr('mmengine.evaluator.metric.collect_results', collect)
    in_rank_order = [padded[i] for rank in range(world_size) for i in range(rank, len(padded), world_size)]
    results, metrics = evaluate(METRICS, in_rank_order, size=len(random_samples))
    assert results == expected
    assert [row['image_id'] for row in metrics[0].per_image] == [sample.image_id for sample in random_samples]


def test_rows_on_disk_read_as_a_list_does():
    """Blocks, a part that stays when the whole is cleared, a padded end, and a copy for another process."""
    rows = [{'image_id': f'{index:05}', 'JA': index / 7} for index in range(1300)]
    spool = Spool(rows[:700])
    spool += rows[700:]
    assert [*spool] == [*spool] == rows
    assert [spool[index] for index in (0, 511, 512, 1299, -1)] == [rows[index] for index in (0, 511, 512, 1299, -1)]
    part = spool[:1300]
    spool.clear()
    spool.append('other')
    assert (len(spool), [*spool]) == (1, ['other'])
    assert [*part] == [*pickle.loads(pickle.dumps(part))] == rows
    assert [*part[:1290]] == rows[:1290]
    with pytest.raises(IndexError):
        part[1300]
    assert not Spool()
