import math

import cv2
import numpy as np
import pandas as pd
import pytest
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore
from isic_challenge_scoring.segmentation import SegmentationScore

from mmskin.evaluation.isic2017 import CATEGORIES, binary_scores
from mmskin.evaluation.submission import score_masks
from mmskin.registry import METRICS

CHALLENGE_NAMES = {
    'JA': 'jaccard',
    'DI': 'dice',
    'AC': 'accuracy',
    'sensitivity': 'sensitivity',
    'specificity': 'specificity',
}


def write_masks(folder, masks):
    folder.mkdir()
    for name, mask in masks.items():
        cv2.imwrite(str(folder / name), mask)


def blobs(seed, num=4):
    rng = np.random.default_rng(seed)
    noise = {f'ISIC_000000{i}_segmentation.png': rng.integers(0, 256, (30 + i, 40)) for i in range(num)}
    return {name: np.where(grey > 128, 255, 0).astype(np.uint8) for name, grey in noise.items()}


def challenge_scores(truth, prediction):
    theirs = SegmentationScore.from_dir(truth, prediction).macro_average
    return {ours: pytest.approx(theirs[name], abs=1e-12) for ours, name in CHALLENGE_NAMES.items()}


def test_mask_folders_score_as_the_challenge_does(tmp_path):
    write_masks(tmp_path / 'truth', blobs(0))
    write_masks(tmp_path / 'prediction', blobs(1))
    scores = score_masks(tmp_path / 'prediction', tmp_path / 'truth')
    assert scores == challenge_scores(tmp_path / 'truth', tmp_path / 'prediction')


def test_empty_masks_are_left_out_where_later_scorers_give_one(tmp_path):
    empty = {'ISIC_0000009_segmentation.png': np.zeros((5, 5), np.uint8)}
    write_masks(tmp_path / 'truth', {**blobs(0, 1), **empty})
    write_masks(tmp_path / 'prediction', {**blobs(1, 1), **empty})
    ours = score_masks(tmp_path / 'prediction', tmp_path / 'truth')['JA']
    theirs = SegmentationScore.from_dir(tmp_path / 'truth', tmp_path / 'prediction').macro_average['jaccard']
    assert (ours + 1) / 2 == pytest.approx(theirs)


def test_native_masks_score_as_the_challenge_does(real_data, tmp_path):
    truth = real_data / 'isic2017_native' / 'ISIC-2017_Validation_Part1_GroundTruth'
    truths = sorted(truth.glob('*_segmentation.png'))
    assert truths
    moved = {path.name: np.roll(cv2.imread(str(path), 0), (40, -25), (0, 1)) for path in truths}
    write_masks(tmp_path / 'prediction', moved)
    scores = score_masks(tmp_path / 'prediction', truth)
    assert 0.5 < scores['JA'] < 1
    assert scores == challenge_scores(truth, tmp_path / 'prediction')


def test_binary_scores_by_hand():
    # Ranked: + 0.9, - 0.8, + 0.6, - 0.5, - 0.1. Five of the six pairs of a positive and a negative are in order;
    # precision is 1 and 2/3 at the positives; above 0.5 are both positives and one of three negatives.
    scores = binary_scores([True, False, True, False, False], [0.9, 0.8, 0.6, 0.5, 0.1])
    assert scores == pytest.approx({'AUC': 5 / 6, 'AP': 5 / 6, 'sensitivity': 1.0, 'specificity': 2 / 3})


def test_auc_is_the_share_of_pairs_in_order_with_ties_halved():
    rng = np.random.default_rng(3)
    positive, scores = rng.random(60) > 0.6, rng.integers(0, 8, 60) / 8
    pairs = scores[positive][:, None] - scores[~positive]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert binary_scores(positive, scores)['AUC'] == pytest.approx(expected)


@pytest.mark.parametrize(
    ('positive', 'undefined'), [(False, {'AUC', 'AP', 'sensitivity'}), (True, {'AUC', 'specificity'})]
)
def test_one_sided_sets_leave_scores_undefined(positive, undefined):
    scores = binary_scores([positive] * 3, [0.2, 0.6, 0.9])
    assert {key for key, value in scores.items() if math.isnan(value)} == undefined


def test_metric_agrees_with_the_challenge_scorer(random_samples, evaluate):
    results, _ = evaluate(['ISIC2017ClassificationMetric'], random_samples)
    labelled = random_samples[1:]
    columns = dict(zip(CATEGORIES, (0, 2), strict=True))
    truth = pd.DataFrame({name: [float(s.gt_label == index) for s in labelled] for name, index in columns.items()})
    scores = pd.DataFrame({name: [float(s.cls_score[index]) for s in labelled] for name, index in columns.items()})
    weights = pd.DataFrame(1.0, index=truth.index, columns=['score_weight', 'validation_weight'])
    theirs = ClassificationScore(truth, scores, weights, ClassificationMetric.AUC)
    for key in ('AUC', 'AP', 'sensitivity', 'specificity'):
        for name in CATEGORIES:
            assert results[f'cls/{key}_{name}'] == pytest.approx(theirs.per_category.loc[name, key.lower()])
        assert results[f'cls/{key}_mean'] == pytest.approx(theirs.macro_average[key.lower()])


def test_a_set_without_keratosis_is_judged_by_melanoma_alone(make_sample, evaluate):
    samples = [make_sample('a', 0, [0.7, 0.2, 0.1]), make_sample('b', 1, [0.2, 0.5, 0.3])]
    results, _ = evaluate(['ISIC2017ClassificationMetric'], samples)
    assert math.isnan(results['cls/AUC_seborrheic_keratosis'])
    assert results['cls/AUC_mean'] == results['cls/AUC_melanoma'] == 1.0


def test_other_classes_are_refused_by_name(make_sample):
    metric = METRICS.build({'type': 'ISIC2017ClassificationMetric'})
    metric.dataset_meta = {'classes': ('cat', 'dog', 'horse')}
    metric.process(None, [make_sample('a', 0, [0.7, 0.2, 0.1]).to_dict()])
    with pytest.raises(ValueError, match='cat'):
        metric.evaluate(1)
