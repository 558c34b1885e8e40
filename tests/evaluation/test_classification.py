import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score

from mmskin.errors import Mistake
from mmskin.evaluation.classification import accuracy, average_precision, binary_average_precision


def test_accuracy_counts_right_labels():
    assert accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.75


def test_average_precision_by_hand():
    # Ranked by score: hit, miss, hit. Recall rises by 1/2 at precision 1 and by 1/2 at precision 2/3.
    assert binary_average_precision([True, False, True], [0.9, 0.6, 0.3]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_average_precision_takes_tied_scores_as_one_threshold():
    # All scores equal: one step to recall 1 at precision 1/4, in whatever order the samples come.
    assert binary_average_precision([True, False, False, False], [0.5] * 4) == 0.25
    assert binary_average_precision([False, False, False, True], [0.5] * 4) == 0.25


def test_average_precision_per_class_by_hand():
    scores = [[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]
    # class 0: first of the ranking 0.7, 0.6, 0.2, 0.1; class 1: second and first of 0.5, 0.3, 0.2, 0.1; class 2: first
    assert average_precision(scores, [0, 1, 1, 2]) == [1.0, 1.0, 1.0]
    # class 0 now at ranks 2 and 3: 1/2 * 1/2 + 1/2 * 2/3
    assert average_precision(scores, [1, 0, 0, 2])[0] == pytest.approx(0.25 + 1 / 3)


def test_average_precision_of_an_absent_class_is_nan():
    assert math.isnan(average_precision([[0.5, 0.3, 0.2], [0.2, 0.7, 0.1]], [0, 1])[2])


def test_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    scores, labels = rng.dirichlet([1, 1, 1], 200), rng.integers(0, 3, 200)
    one_hot = np.eye(3)[labels]
    assert np.mean(average_precision(scores, labels)) == pytest.approx(average_precision_score(one_hot, scores))
    assert accuracy(scores.argmax(1), labels) == accuracy_score(labels, scores.argmax(1))


def test_metric_by_hand(make_sample, evaluate):
    samples = [
        make_sample('a', 0, [0.7, 0.2, 0.1]),
        make_sample('b', 0, [0.2, 0.5, 0.3]),
        make_sample('c', 1, [0.3, 0.6, 0.1]),
        make_sample('d', 2, [0.1, 0.1, 0.8]),
    ]
    results, _ = evaluate(['ClassificationMetric'], samples)
    # melanoma at ranks 1 and 3: (1 + 2/3) / 2; nevus and keratosis at rank 1
    assert results == {'cls/AC': 0.75, 'cls/mAP': pytest.approx((5 / 6 + 1 + 1) / 3)}


@pytest.mark.parametrize('label', [-1, 3])
def test_a_class_that_no_score_is_of_names_its_image(label, make_sample, evaluate):
    with pytest.raises(Mistake, match=f'x: the class is {label}; cls has 0 to 2'):
        evaluate(['ClassificationMetric'], [make_sample('x', label, [0.7, 0.2, 0.1])])


def test_always_nevus_scores_as_the_share_of_nevi(make_sample, evaluate):
    # DESIGN: on the official test set (117 melanoma, 393 nevi, 90 keratoses) AC is 0.655 and mAP 0.333.
    labels = [0] * 117 + [1] * 393 + [2] * 90
    samples = [make_sample(str(index), label, [0.0, 1.0, 0.0]) for index, label in enumerate(labels)]
    results, _ = evaluate(['ClassificationMetric', 'ISIC2017ClassificationMetric'], samples)
    assert results['cls/AC'] == pytest.approx(0.655)
    assert results['cls/mAP'] == pytest.approx(1 / 3)
    assert results['cls/AUC_mean'] == 0.5


def test_unlabelled_samples_keep_their_row_but_do_not_count(make_sample, evaluate):
    samples = [make_sample('a', 0, [0.7, 0.2, 0.1]), make_sample('b', None, [0.2, 0.5, 0.3]), make_sample('c', 1)]
    results, (metric,) = evaluate(['ClassificationMetric'], samples)
    assert results['cls/AC'] == 1.0
    assert [row['image_id'] for row in metric.per_image] == ['a', 'b', 'c']
    assert metric.per_image[1]['pred_label'] == 1


def test_nothing_to_judge_gives_no_result(make_sample, evaluate):
    results, (metric,) = evaluate(['ClassificationMetric'], [make_sample('a'), make_sample('b', 1)])
    assert results == {}
    assert len(metric.per_image) == 2


def test_an_absent_class_is_left_out_of_map_with_a_warning(make_sample, evaluate, monkeypatch):
    logged = []
    monkeypatch.setattr('mmskin.evaluation.classification.print_log', lambda text, **kwargs: logged.append(text))
    samples = [make_sample('a', 0, [0.7, 0.2, 0.1]), make_sample('b', 1, [0.2, 0.5, 0.3])]
    results, _ = evaluate(['ClassificationMetric'], samples)
    assert results['cls/mAP'] == 1.0
    assert logged == ['The average precision of a class without images is undefined (nan) and left out of mAP.']
