"""Metrics from the columns of a test, for any classes and any task."""

import numpy as np
import pytest

from mmskin.benchmark.collect import resampled_metric
from mmskin.evaluation.classification import accuracy, average_precision
from mmskin.evaluation.per_image import PerImageTable

ORDER = ('vascular', 'nevus', 'bcc')  # not sorted, as a data set may have them
ALL = np.ones((1, 60))


def sixty_images(prefix='diagnosis', names=ORDER):
    """The table of 60 images."""
    generator = np.random.default_rng(3)
    scores = generator.dirichlet(np.ones(3), 60)
    table = {f'score_{name}': scores[:, label] for label, name in enumerate(names)}
    table |= {
        'gt_label': generator.integers(3, size=60).astype(float),
        'pred_label': scores.argmax(axis=1).astype(float),
    }
    return PerImageTable([str(index) for index in range(60)], {f'{prefix}/{key}': table[key] for key in table})


def expected(table, prefix='diagnosis', names=ORDER):
    labels = table.columns[f'{prefix}/gt_label']
    precisions = average_precision(np.array([table.columns[f'{prefix}/score_{name}'] for name in names]).T, labels)
    return accuracy(table.columns[f'{prefix}/pred_label'], labels), precisions


def test_other_classes_of_another_task():
    table = sixty_images()
    right, precisions = expected(table)
    assert resampled_metric('diagnosis/AC', table, ALL) == pytest.approx([right])
    assert resampled_metric('diagnosis/mAP', table, ALL) == pytest.approx([np.mean(precisions)])
    assert resampled_metric('diagnosis/AP_bcc', table, ALL) == pytest.approx([precisions[2]])
    for name in ('cls/AC', 'diagnosis/AP_melanoma', 'diagnosis/AUC_mean', 'diagnosis/F1', 'diagnosis/AP'):
        assert resampled_metric(name, table, ALL) is None


def test_unlabelled_and_unpredicted_images_are_left_out():
    table = sixty_images('cls')
    whole = {key: np.append(values, [1.0, 2.0]) for key, values in table.columns.items()}
    whole['cls/gt_label'][60] = np.nan
    for key in whole:
        if key != 'cls/gt_label':
            whole[key][61] = np.nan
    longer = PerImageTable([*table.image_ids, 'unlabelled', 'unpredicted'], whole)
    for name in ('cls/AC', 'cls/mAP'):
        assert resampled_metric(name, longer, np.ones((1, 62))) == pytest.approx(resampled_metric(name, table, ALL))
