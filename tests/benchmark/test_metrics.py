"""Metrics from the columns of a test, for any classes and any task."""

import numpy as np
import pytest

from mmskin.benchmark.metrics import class_order, resampled_metric
from mmskin.evaluation.classification import accuracy, average_precision

ORDER = ('vascular', 'nevus', 'bcc')  # not sorted, as a data set may have them
ALL = np.ones((1, 60))


def columns(prefix='diagnosis', predicted=(0, 1, 2), names=ORDER):
    """The columns of 60 images, of which only ``predicted`` labels are predicted."""
    generator = np.random.default_rng(3)
    scores = generator.dirichlet(np.ones(3), 60)
    unlikely = [label for label in range(3) if label not in predicted]
    scores[:, unlikely] *= 0.01
    table = {f'score_{name}': scores[:, label] for label, name in enumerate(names)}
    table |= {
        'gt_label': generator.integers(3, size=60).astype(float),
        'pred_label': scores.argmax(axis=1).astype(float),
    }
    return {f'{prefix}/{key}': table[key] for key in sorted(table)}


def expected(table, prefix='diagnosis', names=ORDER):
    labels = table[f'{prefix}/gt_label']
    precisions = average_precision(np.array([table[f'{prefix}/score_{name}'] for name in names]).T, labels)
    return accuracy(table[f'{prefix}/pred_label'], labels), precisions


def test_other_classes_of_another_task():
    table = columns()
    right, precisions = expected(table)
    assert resampled_metric('diagnosis/AC', table, ALL) == pytest.approx([right])
    assert resampled_metric('diagnosis/mAP', table, ALL) == pytest.approx([np.mean(precisions)])
    assert resampled_metric('diagnosis/AP_bcc', table, ALL) == pytest.approx([precisions[2]])
    for name in ('cls/AC', 'diagnosis/AP_melanoma', 'diagnosis/AUC_mean', 'diagnosis/F1', 'diagnosis/AP'):
        assert resampled_metric(name, table, ALL) is None


def test_the_order_of_classes_that_are_never_predicted_has_to_be_known():
    table = columns(predicted=(1,))
    assert resampled_metric('diagnosis/mAP', table, ALL) is None
    assert resampled_metric('diagnosis/AC', table, ALL) is not None
    found = resampled_metric('diagnosis/mAP', table, ALL, ORDER)
    assert found == pytest.approx([np.mean(expected(table)[1])])


@pytest.mark.parametrize('names', [('melanoma', 'nevus', 'seborrheic_keratosis'), ('0', '1', '2')])
def test_known_orders_need_no_predictions(names):
    table = columns('cls', (1,), names)
    own = {key.removeprefix('cls/'): values for key, values in table.items()}
    assert tuple(class_order(own)) == names
    assert resampled_metric('cls/mAP', table, ALL) == pytest.approx([np.mean(expected(table, 'cls', names)[1])])


def test_unlabelled_and_unpredicted_images_are_left_out():
    table = columns('cls')
    whole = {key: np.append(values, [1.0, 2.0]) for key, values in table.items()}
    whole['cls/gt_label'][60] = np.nan
    for key in whole:
        if key != 'cls/gt_label':
            whole[key][61] = np.nan
    for name in ('cls/AC', 'cls/mAP'):
        assert resampled_metric(name, whole, np.ones((1, 62))) == pytest.approx(resampled_metric(name, table, ALL))
