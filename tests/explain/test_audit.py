"""What is left of a diagnosis when parts of the image are painted over, on a picture whose parts are known."""

import csv
from contextlib import suppress

import numpy as np
import pytest

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.explain.audit import VARIANTS
from mmskin.files import read_note
from mmskin.inference.zoo import model_folder
from mmskin.models.weights import HASH, read_metadata
from mmskin.packaging.card import Recipe, model_card

SKIN, LESION, PATCH = (220, 170, 150), (90, 60, 50), (60, 120, 190)


@pytest.fixture
def picture():
    """Skin with a lesion in the middle, a blue patch in a corner and a ruler's marks at a side."""
    image = np.full((120, 160, 3), SKIN, np.uint8)
    image[40:80, 60:100] = LESION
    image[:24, :24] = PATCH
    image[110:118, 30:150:12] = (30, 30, 30)
    lesion = np.zeros((120, 160), bool)
    lesion[36:84, 56:104] = True
    return image, lesion


def changed(name, picture):
    return next(variant for variant in VARIANTS if variant.name == name).change(*picture)


def is_color(image, color):
    return np.abs(image.astype(int) - color).max(axis=2) < 30


def test_what_is_painted_over_is_gone_and_the_rest_stays(picture):
    image, lesion = picture
    background = changed('background alone', picture)
    assert not is_color(background, LESION).any()
    assert np.array_equal(background[~lesion], image[~lesion])
    alone = changed('lesion alone', picture)
    assert np.array_equal(alone[lesion], image[lesion])
    assert is_color(alone[~lesion][None], SKIN).all()
    without = changed('ruler, hair, patch painted over', picture)
    assert np.array_equal(without[lesion], image[lesion])
    assert is_color(without[:24, :24], SKIN).mean() > 0.9
    assert (without[110:118] < 60).all(axis=2).mean() < 0.01 < (image[110:118] < 60).all(axis=2).mean()


def test_what_is_added_leaves_the_lesion(picture):
    image, lesion = picture
    for name in ('patches added', 'as it is'):
        assert np.array_equal(changed(name, picture)[lesion], image[lesion])
    assert is_color(changed('patches added', picture), (230, 150, 60)).sum() > 100
    warm, cool = (changed(f'{light} light', picture).astype(int) for light in ('warmer', 'cooler'))
    assert (warm[..., 0] - warm[..., 2]).mean() > 30 + (cool[..., 0] - cool[..., 2]).mean()


def test_no_lesion_is_no_error(picture):
    image, lesion = picture
    for variant in VARIANTS:
        assert variant.change(image, np.zeros_like(lesion)).shape == image.shape


def test_the_command_writes_a_table_a_picture_and_a_section_of_the_card(tmp_path, capsys):
    data = tmp_path / 'data'
    SyntheticLesions(seed=2, shape=(48, 64)).write(data, num_train=3, num_val=9, num_test=1)
    out = tmp_path / 'out'
    arguments = ['--data-root', str(data), '--split', 'val', '--out-dir', str(out)]
    assert main(['audit', 'lite0_isic2017', *arguments]) == 0
    text = capsys.readouterr().out
    assert all(f'| {variant.name} |' in text for variant in VARIANTS)
    assert '9 images of the split `val`' in text
    found = read_note(out / 'audit.json')
    assert found['weights'] == read_metadata(model_folder('lite0_isic2017').weights)[HASH]
    plain, *others = found['rows']
    assert (plain['decided_otherwise'], plain['moved']) == (0, 0)
    assert any(row['moved'] > 0 for row in others)
    rows = [*csv.DictReader((out / 'audit.csv').open(newline=''))]
    assert len(rows) == 9
    total = sum(float(rows[0][f'as it is/score_{name}']) for name in ('melanoma', 'nevus', 'seborrheic_keratosis'))
    assert total == pytest.approx(1, abs=1e-4)
    assert (out / 'audit.png').stat().st_size > 10_000
    folder = model_folder('lite0_isic2017')
    card = model_card(folder, load_config(folder.config), Recipe('x'), (), found)
    assert '## Shortcuts\n\n9 images of the split `val`' in card


@pytest.mark.filterwarnings('error:All-NaN')
def test_images_of_one_class_have_no_auc(tmp_path, capsys):
    data = tmp_path / 'data'
    SyntheticLesions(seed=2, shape=(48, 64)).write(data, num_train=1, num_val=1, num_test=1)
    arguments = ['--data-root', str(data), '--split', 'val', '--out-dir', str(tmp_path / 'out')]
    assert main(['audit', 'lite0_isic2017', *arguments]) == 0
    assert '| nan (nan to nan) |' in capsys.readouterr().out
    found, folder = read_note(tmp_path / 'out/audit.json'), model_folder('lite0_isic2017')
    assert '| nan (nan to nan) |' in model_card(folder, load_config(folder.config), Recipe('x'), (), found)


def test_the_table_is_written_before_the_picture(tmp_path):
    SyntheticLesions(seed=2, shape=(48, 64)).write(tmp_path / 'data', num_train=1, num_val=1, num_test=1)
    (tmp_path / 'out/audit.png').mkdir(parents=True)  # where no picture can be written
    with suppress(OSError):
        main(['audit', 'lite0_isic2017', '--data-root', str(tmp_path / 'data'), '--out-dir', str(tmp_path / 'out')])
    assert '| background alone |' in (tmp_path / 'out/audit.md').read_text()
