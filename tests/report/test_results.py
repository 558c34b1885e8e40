import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from mmskin.evaluation.submission import category_scores
from mmskin.report.figures import confusion, operating_points_figure
from mmskin.report.page import (
    all_groups,
    challenge_results,
    class_results,
    group_results,
    has_challenge,
    headline,
)

LABELS = [0, 1, 2, 1, 1] * 12


def test_headline_is_scikit_learns(make_evaluation):
    evaluation = make_evaluation(LABELS)
    found, scores = headline(evaluation), evaluation.scores
    truth = np.eye(3)[np.array(LABELS)]
    assert found['cls/AC'].value == pytest.approx((evaluation.predicted == LABELS).mean())
    assert found['cls/mAP'].value == pytest.approx(average_precision_score(truth, scores))
    assert found['mean AUC of the classes'].value == pytest.approx(roc_auc_score(truth, scores))
    assert found['cls/AUC_mean'].value == pytest.approx(roc_auc_score(truth[:, ::2], scores[:, ::2]))
    assert found['seg/JA'].value == pytest.approx(evaluation.overlap['JA'].mean())
    jaccard = evaluation.overlap['JA']
    assert found['JA, 0 below 0.65'].value == pytest.approx((jaccard * (jaccard >= 0.65)).mean())
    assert all(one.low < one.value < one.high for one in found.values())


@pytest.mark.parametrize('decimals', [0, 1, 15])
def test_challenge_results_are_the_official_values(make_evaluation, decimals):
    evaluation = make_evaluation([*LABELS, math.nan])
    evaluation.scores = evaluation.scores.round(decimals)  # the scorer leaves out points amid equal steps
    found = challenge_results(evaluation)
    for index, name in ((0, 'melanoma'), (2, 'seborrheic_keratosis')):
        wanted = category_scores(np.array(LABELS) == index, evaluation.scores[:-1, index])
        assert {score: row[name].value for score, row in found.items()} == pytest.approx(wanted)
    for row in found.values():
        assert row['mean'].value == pytest.approx((row['melanoma'].value + row['seborrheic_keratosis'].value) / 2)
        assert all(one.low <= one.value <= one.high and one.num_images == 60 for one in row.values())


def test_operating_points_are_those_of_the_table(make_evaluation):
    evaluation = make_evaluation(LABELS)
    _, _, *points = operating_points_figure(evaluation).axes[0].lines  # after the diagonal and the curve
    specificities, sensitivities = zip(
        *((1 - point.get_xdata()[0], point.get_ydata()[0]) for point in points), strict=True
    )
    table = challenge_results(evaluation)
    assert specificities == pytest.approx(
        [table[f'specificity@{at}']['melanoma'].value for at in ('0.82', '0.89', '0.95')]
        + [table['specificity']['melanoma'].value]
    )
    assert sensitivities[3] == pytest.approx(table['sensitivity']['melanoma'].value)
    assert all(sensitivity >= at for sensitivity, at in zip(sensitivities, (0.82, 0.89, 0.95), strict=False))


def test_recall_and_precision_are_scikit_learns(make_evaluation):
    evaluation = make_evaluation(LABELS)
    found = class_results(evaluation)
    for score, side in ((recall_score, 'recall'), (precision_score, 'precision')):
        wanted = score(LABELS, evaluation.predicted, average=None)
        assert [row[side].value for row in found.values()] == pytest.approx(wanted)


def test_confusion_by_hand(make_evaluation):
    evaluation = make_evaluation([0, 0, 1, math.nan])
    evaluation.predicted = np.array([0, 1.0, 1, 2])
    counts, shares = confusion(evaluation)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert shares[:2].tolist() == [[0.5, 0.5, 0], [0, 1, 0]] and np.isnan(shares[2]).all()


def test_sizes_are_terciles(make_evaluation):
    evaluation = make_evaluation([0] * 7)
    evaluation.mask_share = np.array([0.5, 0.1, 0.2, math.nan, 0.3, 0.4, 0.15])
    groups = all_groups(evaluation)
    assert list(groups)[1:4] == ['small (10.0–15.0 %)', 'medium (20.0–30.0 %)', 'large (40.0–50.0 %)']
    assert [np.flatnonzero(group).tolist() for group in [*groups.values()][1:4]] == [[1, 6], [2, 4], [0, 5]]


def test_groups_by_hand(make_evaluation):
    evaluation = make_evaluation([0, 0, 1, 1])
    evaluation.overlap['JA'] = np.array([0.2, 0.4, 0.6, math.nan])
    found = group_results(evaluation)
    assert found['melanoma']['JA'].value == pytest.approx(0.3)
    assert found['nevus']['JA'].value == pytest.approx(0.6) and found['nevus']['JA'].num_images == 1
    assert found['all images']['JA'].value == pytest.approx(0.4)
    assert math.isnan(found['seborrheic keratosis']['JA'].value)


def test_challenge_needs_its_classes_and_labels(make_evaluation):
    assert has_challenge(make_evaluation([0, 1]))
    assert not has_challenge(make_evaluation([math.nan] * 2))
    foreign = make_evaluation([0, 1], classes=('a', 'b', 'c'))
    assert not has_challenge(foreign)
    assert 'cls/AUC_mean' not in headline(foreign)
