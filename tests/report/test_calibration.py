import math

import numpy as np
import pytest
from scipy.special import softmax

from mmskin.report.calibration import BOUNDS, fit_calibration, fit_temperature, negative_log_likelihood, scaled
from mmskin.report.figures import bin_confidences


def drawn(temperature, num_images=4000):
    """Probabilities whose labels follow them at ``temperature``."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=3, size=(num_images, 3))
    true = softmax(logits / temperature, axis=1)
    return softmax(logits, axis=1), (rng.random((num_images, 1)) > true.cumsum(axis=1)).sum(axis=1)


def test_calibration_error_by_hand():
    # confidences 0.9, 0.9 (one right) and 0.5 (right): gaps 0.4 for two images and 0.5 for one
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]])
    bins = bin_confidences(scores, np.array([0, 1, 0]))
    assert bins.calibration_error == pytest.approx((2 * 0.4 + 0.5) / 3)
    assert bins.counts.sum() == 3 and bins.counts[13] == 2 and bins.counts[7] == 1  # 0.9 in (13/15, 14/15]
    assert np.isnan(bins.accuracy[0])


def test_confidence_of_one_is_in_the_last_bin():
    bins = bin_confidences(np.array([[1.0, 0.0], [1 / 3, 1 / 3]]), np.array([0, 0]))
    assert bins.counts[14] == 1 and bins.counts[4] == 1  # 1/3 closes the fifth


def test_scaling_is_that_of_logits():
    logits = np.array([[2.0, 0.5, -1.0]])
    assert scaled(softmax(logits, axis=1), 2.5) == pytest.approx(softmax(logits / 2.5, axis=1))
    assert np.isfinite(scaled(np.array([[1.0, 0.0, 0.0]]), 3.0)).all()


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0])
def test_temperature_is_found_again(temperature):
    scores, labels = drawn(temperature)
    found = fit_temperature(scores, labels)
    assert found == pytest.approx(temperature, rel=0.07)
    best = negative_log_likelihood(scaled(scores, found), labels)
    assert all(negative_log_likelihood(scaled(scores, found * at), labels) >= best for at in (0.97, 1.03))
    assert (scaled(scores, found).argmax(axis=1) == scores.argmax(axis=1)).all()


def test_temperature_is_scikit_learns():
    """Its own temperature scaling came with 1.8."""
    private = pytest.importorskip('sklearn.calibration')
    if not hasattr(private, '_TemperatureScaling'):
        pytest.skip('this scikit-learn has no temperature scaling')
    scores, labels = drawn(1.7)
    theirs = private._TemperatureScaling().fit(np.log(scores), labels)
    assert fit_temperature(scores, labels) == pytest.approx(1 / theirs.beta_, rel=1e-3)


def test_temperature_stays_bounded_when_all_are_right():
    scores = np.array([[0.6, 0.4], [0.3, 0.7]])
    assert fit_temperature(scores, np.array([0, 1])) == pytest.approx(BOUNDS[0], rel=0.01)


def test_fit_on_other_images(tmp_path, make_evaluation, write_test):
    other = make_evaluation([0, 1, 2, 1, math.nan])
    other.image_ids = [f'VAL_{index}' for index in range(5)]
    path = write_test(tmp_path / 'val', other) / 'per_image.csv'
    found = fit_calibration(path, make_evaluation([0, 1, 2]))
    assert found.num_images == 4 and found.nll_after <= found.nll_before
    assert found.temperature == pytest.approx(fit_temperature(other.scores[:4], other.labels[:4]))


def test_never_on_the_reported_images(tmp_path, make_evaluation, write_test):
    evaluation = make_evaluation([0, 1, 2])
    path = write_test(tmp_path, evaluation) / 'per_image.csv'
    with pytest.raises(ValueError, match=r'per_image\.csv holds 3 ids .*of the reported test; fit the temperature on'):
        fit_calibration(path, evaluation)


@pytest.mark.parametrize(
    ('labels', 'diagnosis', 'message'),
    [
        ([math.nan] * 3, True, 'no image with a label'),
        ([0, 1, 2], False, r'per_image\.csv has the classes \[\], the reported test'),
    ],
)
def test_a_file_without_what_is_needed(tmp_path, make_evaluation, write_test, labels, diagnosis, message):
    other = make_evaluation(labels, diagnosis)
    other.image_ids = ['a', 'b', 'c']
    with pytest.raises(ValueError, match=message):
        fit_calibration(write_test(tmp_path, other) / 'per_image.csv', make_evaluation([0, 1, 2]))


@pytest.mark.parametrize(('column', 'value'), [('gt_label', 7), ('gt_label', -1), ('score_nevus', 42.0)])
def test_a_label_or_probability_that_is_none_is_refused(tmp_path, make_evaluation, column, value):
    other = make_evaluation([0, 1, 2])
    other.image_ids = ['a', 'b', 'c']
    other.columns[f'cls/{column}'][1] = value
    other.write(tmp_path / 'loose.csv')
    with pytest.raises(ValueError, match=r'loose\.csv: b has the label .* and the probabilities'):
        fit_calibration(tmp_path / 'loose.csv', make_evaluation([0, 1, 2]))
