"""One set of predictions under every convention, on two images whose scores can be worked out."""

import os

import cv2
import numpy as np
import pytest

from mmskin.cli import main
from mmskin.evaluation.conventions import DIAGNOSES, OUTLINES, compare, read_predictions, score_tables

TABLE = 'image_id,melanoma,seborrheic_keratosis\nx,1.0,0.0\ny,0.0,0.0\n'
FOUND = 'image_id,melanoma,nevus,seborrheic_keratosis,label\nx,0.4,0.5,0.1,nevus\ny,0.2,0.7,0.1,nevus\n'


def lesion(height, width, rows):
    """A mask of which the first ``rows`` are lesion."""
    mask = np.zeros((height, width), np.uint8)
    mask[:rows] = 255
    return mask


@pytest.fixture
def folder(tmp_path):
    """Two images of 256 x 256: a large lesion that is found, and a small one of which half is."""
    (tmp_path / 'truth').mkdir()
    (tmp_path / 'out' / 'masks').mkdir(parents=True)
    for name, true, found in (('x', 128, 128), ('y', 16, 8)):
        cv2.imwrite(str(tmp_path / 'truth' / f'{name}_segmentation.png'), lesion(256, 256, true))
        cv2.imwrite(str(tmp_path / 'out' / 'masks' / f'{name}_segmentation.png'), lesion(256, 256, found))
    (tmp_path / 'truth.csv').write_text(TABLE)
    (tmp_path / 'out' / 'predictions.csv').write_text(FOUND)
    return tmp_path


def scores(folder):
    found = read_predictions(folder / 'out', folder / 'truth', folder / 'truth.csv')
    pairs = [(one, found.outlines) for one in OUTLINES] + [(one, found.diagnoses) for one in DIAGNOSES]
    return {one.name: one.score(predictions) for one, predictions in pairs}


def test_every_convention_by_hand(folder):
    found = scores(folder)
    jaccard = {name: one['JA'] for name, one in found.items() if 'JA' in one}
    assert jaccard == {
        'per image': pytest.approx((1 + 0.5) / 2),
        'per image, 0 below .65': pytest.approx((1 + 0) / 2),
        'per image, 256 x 192': pytest.approx((1 + 0.5) / 2),
        'pooled pixels, 256 x 256': pytest.approx(136 / 144),
        'pooled pixels, with background': pytest.approx((136 / 144 + 368 / 376) / 2),
        'share of pixels right': pytest.approx(504 / 512),
        'per image, best threshold': pytest.approx((1 + 0.5) / 2),
    }
    accuracy = {one.name: found[one.name]['AC'] for one in DIAGNOSES}
    assert accuracy == {
        'three classes': 0.5,
        'two binary tasks': 0.75,  # the melanoma is not called, the keratoses that are none neither
        'balanced': 0.5,
        'two binary tasks, best thresholds': 1.0,
    }


def test_a_threshold_chosen_on_the_test_set_flatters(folder):
    """The small lesion is outlined fully at a lower one, the large one as before."""
    (folder / 'out' / 'probabilities').mkdir()
    for name, rows in (('x', 128), ('y', 8)):
        levels = lesion(256, 256, rows)
        levels[rows : 16 if name == 'y' else rows] = 100
        cv2.imwrite(str(folder / 'out' / 'probabilities' / f'{name}.png'), levels)
    found = scores(folder)
    assert found['per image']['JA'] == pytest.approx(0.75)
    assert found['per image, best threshold']['JA'] == pytest.approx(1)


def test_tables_name_papers_and_warn(folder):
    found = read_predictions(folder / 'out', folder / 'truth', folder / 'truth.csv')
    text = score_tables([found, found])
    assert '| pooled pixels, 256 x 256 | best of 2 on these images | 0.944 | 0.971 | 0.984 | EGE-UNet |' in text
    assert 'cannot be compared with one by "per image": the same predictions have JA +0.194' in text
    assert '"per image, 256 x 192" and "per image" agree on these predictions' in text
    assert 'per image, best threshold: left out, it needs probabilities' in text
    line = compare('TransFuse', 'EGE-UNet', found)
    assert 'cannot be compared: the same predictions have JA 0.750 and 0.944' in line
    assert 'score alike (per image)' in compare('ISIC 2017', 'Chen 2018', found)


def test_the_command_prints_them(folder, capsys):
    arguments = ['--masks', str(folder / 'truth'), '--labels', str(folder / 'truth.csv')]
    assert main(['score', str(folder / 'out'), *arguments]) == 0
    assert '## Outlines, 2 images' in (text := capsys.readouterr().out)
    assert '## Diagnoses, 2 images' in text
    assert main(['score', str(folder / 'out'), *arguments, '--compare', 'EGE-UNet', 'nobody']) == 2
    assert 'nobody: its convention is unknown; known: BCDU-Net, ' in capsys.readouterr().err


def test_an_empty_folder_of_an_earlier_prediction_does_not_hide_the_masks(folder):
    expected = scores(folder)
    (folder / 'out' / 'probabilities').mkdir()
    assert scores(folder) == expected


def replaced_by_a_folder(path):
    path.unlink()
    path.mkdir()


def replaced_by_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (lambda root: (root / 'out/masks/y_segmentation.png').unlink(), 'y has a true mask'),
        (lambda root: (root / 'out/predictions.csv').write_text('image_id,melanoma\nx,1\n'), 'needs image_id and'),
        (lambda root: (root / 'out/predictions.csv').write_text(FOUND.rpartition('y')[0]), 'y has a diagnosis'),
        (lambda root: (root / 'out/predictions.csv').write_text(f'{FOUND}y,0,1,0,nevus\n'), 'the id y occurs twice'),
        (
            lambda root: (root / 'out/predictions.csv').write_text(FOUND.replace('0.4', 'nan')),
            "line 2: 'nan' is not a number",
        ),
        (
            lambda root: (root / 'out/predictions.csv').write_text(FOUND.replace(',', ';')),
            "error: {out}/predictions.csv: cells are separated by ';'",
        ),
        (lambda root: (root / 'out/predictions.csv').write_text(FOUND[:-1]), 'error: {out}/predictions.csv: damaged'),
        (lambda root: replaced_by_a_folder(root / 'truth.csv'), 'truth.csv: Is a directory'),
        (lambda root: replaced_by_a_pipe(root / 'truth.csv'), 'truth.csv: a device or a pipe'),
        (
            lambda root: replaced_by_a_pipe(root / 'truth/y_segmentation.png'),
            'error: {truth}/y_segmentation.png: a device or a pipe',
        ),
        (
            lambda root: (root / 'out/predictions.csv').write_text(FOUND.replace('0.4', '2')),
            'a probability is from 0 to 1',
        ),
        (lambda root: cv2.imwrite(str(root / 'out/masks/y_segmentation.png'), lesion(9, 9, 3)), 'has the size'),
    ],
)
def test_what_cannot_be_scored_is_named(folder, capsys, break_it, message):
    break_it(folder)
    arguments = ['--masks', str(folder / 'truth'), '--labels', str(folder / 'truth.csv')]
    assert main(['score', str(folder / 'out'), *arguments]) == 2
    assert message.format(out=folder / 'out', truth=folder / 'truth') in capsys.readouterr().err


@pytest.mark.parametrize(
    ('lost', 'message'),
    [('predictions.csv', 'has no predictions.csv for --labels'), ('masks', 'has no masks for --masks')],
)
def test_a_truth_of_which_nothing_is_predicted_is_named(folder, capsys, lost, message):
    (folder / 'out' / lost).rename(folder / 'lost')
    arguments = ['--masks', str(folder / 'truth'), '--labels', str(folder / 'truth.csv')]
    assert main(['score', str(folder / 'out'), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ('write', 'message'),
    [
        (lambda mask: mask.astype(np.uint16) * 200, 'x.png: has more than 8 bits; write a probability as 0 to 255'),
        (lambda mask: mask // 255, 'probabilities: no level is above 1; write a probability as 0 to 255'),
    ],
)
def test_probabilities_of_another_range_are_named(folder, capsys, write, message):
    (folder / 'out/probabilities').mkdir()
    for name in 'xy':
        cv2.imwrite(str(folder / f'out/probabilities/{name}.png'), write(lesion(256, 256, 100)))
    assert main(['score', str(folder / 'out'), '--masks', str(folder / 'truth')]) == 2
    assert message in capsys.readouterr().err


def test_a_predicted_mask_is_read_as_a_true_one(folder, capsys):
    path = folder / 'out/masks/x_segmentation.png'
    mask = lesion(256, 256, 128)
    for same in (mask // 255, mask.astype(np.uint16) * 257, np.stack([mask] * 3, 2)):
        cv2.imwrite(str(path), same)
        assert scores(folder)['per image']['JA'] == pytest.approx(0.75)
    mask[128:] = 3  # a map of probabilities, which would be lesion all over
    cv2.imwrite(str(path), mask)
    assert main(['score', str(folder / 'out'), '--masks', str(folder / 'truth')]) == 2
    assert 'x_segmentation.png holds the values 3, 255;' in capsys.readouterr().err


def test_a_truth_without_any_image_is_named(folder, capsys):
    (folder / 'truth.csv').write_text('image_id,melanoma,seborrheic_keratosis\nx,,\n')
    (folder / 'empty').mkdir()
    assert main(['score', str(folder / 'out'), '--labels', str(folder / 'truth.csv')]) == 2
    assert 'truth.csv: has no image with a diagnosis' in capsys.readouterr().err
    assert main(['score', str(folder / 'out'), '--masks', str(folder / 'empty')]) == 2
    assert 'empty: no true mask there' in capsys.readouterr().err


def test_the_truth_has_to_be_named(folder, capsys):
    assert main(['score', str(folder / 'out')]) == 2
    assert '--data-root with --split' in capsys.readouterr().err
