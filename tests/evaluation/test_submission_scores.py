import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from isic_challenge_scoring.classification import ClassificationMetric, ClassificationScore
from isic_challenge_scoring.segmentation import SegmentationScore

from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.evaluation.isic2017 import CATEGORIES
from mmskin.evaluation.submission import category_scores, score_submission, scores_tables

PREFIX = 'ISIC-2017_Test_v2'
MASK_NAMES = {'JA': 'jaccard', 'DI': 'dice', 'AC': 'accuracy', 'sensitivity': 'sensitivity'}
TABLE_NAMES = {
    'AUC': 'auc',
    'AP': 'ap',
    'sensitivity': 'sensitivity',
    'specificity': 'specificity',
    'AC': 'accuracy',
}


@pytest.fixture(scope='module')
def truth(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'set'
    SyntheticLesions(seed=7, shape=(32, 40)).write(root, num_train=3, num_val=3, num_test=12)
    for path in (root / f'{PREFIX}_Part1_GroundTruth').iterdir():
        path.rename(path.with_name(path.name.replace('SYN', 'ISIC')))  # the challenge's scorer knows no other ids
    table = root / f'{PREFIX}_Part3_GroundTruth.csv'
    table.write_text(table.read_text().replace('SYN', 'ISIC'))
    return root


@pytest.fixture
def submission(truth, tmp_path):
    """The true masks, moved, and probabilities that know a little."""
    (tmp_path / 'Part1').mkdir()
    for path in (truth / f'{PREFIX}_Part1_GroundTruth').iterdir():
        cv2.imwrite(str(tmp_path / 'Part1' / path.name), np.roll(cv2.imread(str(path), 0), (2, -3), (0, 1)))
    table = pd.read_csv(truth / f'{PREFIX}_Part3_GroundTruth.csv')
    noise = np.random.default_rng(1).random((len(table), 2))
    table[list(CATEGORIES)] = 0.4 * table[list(CATEGORIES)] + 0.6 * noise
    table.to_csv(tmp_path / 'Part3.csv', header=False, index=False)
    return tmp_path


def test_masks_score_as_the_challenge_scores_them(submission, truth):
    ours = score_submission(submission, truth)['segmentation']
    theirs = SegmentationScore.from_dir(truth / f'{PREFIX}_Part1_GroundTruth', submission / 'Part1').macro_average
    assert 0.5 < ours['JA'] < 1
    for name, official in MASK_NAMES.items():
        assert ours[name] == pytest.approx(theirs[official], abs=1e-12)


def test_table_scores_as_the_challenge_scores_it(submission, truth):
    ours = score_submission(submission, truth)
    tables = [
        pd.read_csv(truth / f'{PREFIX}_Part3_GroundTruth.csv', index_col='image_id'),
        pd.read_csv(submission / 'Part3.csv', names=['image_id', *CATEGORIES], index_col='image_id'),
    ]
    weights = pd.DataFrame(1.0, index=tables[0].index, columns=['score_weight', 'validation_weight'])
    theirs = ClassificationScore(*tables, weights, ClassificationMetric.AUC)
    for name, official in TABLE_NAMES.items():
        for category in CATEGORIES:
            assert ours[category][name] == pytest.approx(theirs.per_category.loc[category, official])
        assert ours['mean'][name] == pytest.approx(theirs.macro_average[official])


def test_native_masks_score_as_the_challenge_scores_them(real_data, tmp_path):
    root = real_data / 'isic2017_native'
    if not root.is_dir():
        pytest.skip('native-size images are looked for in ../shared/data/isic2017_native')
    truths = root / 'ISIC-2017_Validation_Part1_GroundTruth'
    (tmp_path / 'Part1').mkdir()
    for path in truths.glob('*_segmentation.png'):
        cv2.imwrite(str(tmp_path / 'Part1' / path.name), np.roll(cv2.imread(str(path), 0), 60, 1))
    ours = score_submission(tmp_path, root, 'val')['segmentation']
    theirs = SegmentationScore.from_dir(truths, tmp_path / 'Part1').macro_average
    assert ours['JA'] == pytest.approx(theirs['jaccard'], abs=1e-12)


def test_specificity_at_a_sensitivity_by_hand():
    # From above: + nine times 0.9, - 0.8, + 0.6, - 0.5, - 0.1. All positives are found at 0.6, with one of three
    # negatives, and nine in ten of them without any.
    positive, scores = np.array([*[1] * 9, 0, 1, 0, 0], bool), np.array([*[0.9] * 9, 0.8, 0.6, 0.5, 0.1])
    found = category_scores(positive, scores)
    assert [found[f'specificity@{at}'] for at in ('0.82', '0.89', '0.95')] == pytest.approx([1, 1, 2 / 3])
    assert np.isnan(category_scores(positive[9:10], scores[9:10])['specificity@0.82'])


def test_either_part_alone(submission, truth):
    shutil.rmtree(submission / 'Part1')
    assert list(score_submission(submission, truth)) == [*CATEGORIES, 'mean']
    (submission / 'Part3.csv').unlink()
    with pytest.raises(FileNotFoundError, match='neither Part1/ nor'):
        score_submission(submission, truth)


def test_a_header_is_passed_over(submission, truth):
    before = score_submission(submission, truth)
    table = submission / 'Part3.csv'
    table.write_text('image_id,melanoma,seborrheic_keratosis\n' + table.read_text())
    assert score_submission(submission, truth) == before


def test_tables_name_every_score(submission, truth):
    text = scores_tables(score_submission(submission, truth))
    assert '| Part 1 | segmentation |' in text
    assert '| Part 3 | melanoma | seborrheic_keratosis | mean |' in text
    assert '| specificity@0.82 |' in text


def first_mask(submission):
    return sorted((submission / 'Part1').iterdir())[0]


def write_bad(value=None, shape=(32, 40), dtype=np.uint8):
    def spoil(submission):
        image = np.zeros(shape, dtype)
        if value is not None:
            image.flat[0] = value
        cv2.imwrite(str(first_mask(submission)), image)

    return spoil


def edit_table(change):
    def spoil(submission):
        table = submission / 'Part3.csv'
        table.write_text('\n'.join(change(table.read_text().splitlines())))

    return spoil


BAD = {
    'missing mask': (lambda s: first_mask(s).unlink(), 'Part1 lacks 1 id'),
    'extra mask': (lambda s: shutil.copy(first_mask(s), s / 'Part1/X_segmentation.png'), r'Part1 holds 1 id \(X\)'),
    'wrong size': (write_bad(shape=(32, 41)), r'000_segmentation.png: .*shape \(32, 41\)'),
    'grey mask': (write_bad(value=100), r'000_segmentation.png: holds the values \[  0 100\]'),
    'ones for lesion': (write_bad(value=1), '000_segmentation.png: holds the values'),
    'colour mask': (write_bad(shape=(32, 40, 3)), '000_segmentation.png: is an image of mode'),
    '16 bits': (write_bad(dtype=np.uint16), '000_segmentation.png: is an image of mode'),
    'no image': (lambda s: first_mask(s).write_bytes(b'none'), '000_segmentation.png: not a mask that can be read'),
    'missing row': (edit_table(lambda lines: lines[1:]), 'Part3.csv lacks 1 id'),
    'extra row': (edit_table(lambda lines: [*lines, 'X,0,1']), r'Part3.csv holds 1 id \(X\)'),
    'row twice': (edit_table(lambda lines: [*lines, lines[0]]), r'Part3.csv, line 13: the id .* occurs twice'),
    'above 1': (edit_table(lambda lines: ['ISIC_2000000,1.5,0', *lines[1:]]), "Part3.csv, line 1: '1.5' is not a prob"),
    'nan': (edit_table(lambda lines: ['ISIC_2000000,nan,0', *lines[1:]]), "Part3.csv, line 1: 'nan' is not a prob"),
    'no number': (edit_table(lambda lines: ['ISIC_2000000,high,0', *lines[1:]]), "'high' is not a probability"),
    'UTF-16': (lambda s: (s / 'Part3.csv').write_text('a,0,1', 'utf-16'), 'Part3.csv is not a UTF-8 table'),
    'no mask at all': (lambda s: [path.unlink() for path in (s / 'Part1').iterdir()], 'Part1 lacks 12 ids'),
    'empty table': (edit_table(lambda lines: []), 'Part3.csv lacks 12 ids'),
    'four cells': (edit_table(lambda lines: ['ISIC_2000000,0,0,1', *lines[1:]]), 'Part3.csv, line 1 has 4 cells'),
}


@pytest.mark.parametrize(('spoil', 'message'), BAD.values(), ids=BAD.keys())
def test_a_bad_submission_is_named(submission, truth, spoil, message):
    spoil(submission)
    with pytest.raises(ValueError, match=message):
        score_submission(submission, truth)
