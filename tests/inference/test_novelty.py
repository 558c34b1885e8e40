"""How unlike the training images an image is, on features whose distances are known, and in what is predicted."""

import argparse
import csv
import json
import shutil
from runpy import run_path

import numpy as np
import pytest
import torch
from PIL import Image

from mmskin.cli import main
from mmskin.datasets.strangers import KINDS, strangers
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.errors import MissingFile, Mistake
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.novelty import NOVELTY_FILE, Novelty, shared_features
from mmskin.inference.prediction import NO_LESION, UNLIKE, LesionPrediction
from mmskin.inference.zoo import DEFAULT_MODEL, model_folder
from mmskin.models.averaging import networks_in
from mmskin.models.weights import HASH, read_metadata


def normal(count, seed=0):
    """Features of two kinds, of which the second has a hundred times the spread."""
    draws = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draws * torch.tensor([1.0, 100.0]) + 5


def test_distances_are_in_units_of_the_spread():
    novelty = Novelty.fit(normal(4000), 'hash')
    near, first, second = novelty.of(torch.tensor([[5.0, 5.0], [15.0, 5.0], [5.0, 1005.0]])) * novelty.threshold
    assert near == pytest.approx(0, abs=0.05)
    assert first == pytest.approx(10 / 2**0.5, rel=0.05)  # ten spreads, over the root of two features
    assert second == pytest.approx(10 / 2**0.5, rel=0.05)


def test_the_threshold_passes_the_share_of_new_images_that_it_says():
    novelty = Novelty.fit(normal(2000), 'hash', share=0.9)
    assert (novelty.of(normal(2000, seed=1)) > 1).double().mean() == pytest.approx(0.1, abs=0.02)


def test_a_file_gives_the_same_and_is_for_its_weights_alone(tmp_path):
    novelty = Novelty.fit(normal(500), 'hash')
    novelty.write(tmp_path / NOVELTY_FILE)
    again = Novelty.read(tmp_path / NOVELTY_FILE, 'hash')
    assert again.num_images == 500
    assert torch.allclose(again.of(normal(9, seed=2)), novelty.of(normal(9, seed=2)), rtol=2e-3)
    with pytest.raises(Mistake, match='was not made for these weights'):
        Novelty.read(tmp_path / NOVELTY_FILE, 'other')


def test_a_damaged_file_is_refused(tmp_path):
    """A wrong whitening would change every note without a word; the last values are of the whitening."""
    Novelty.fit(normal(500), 'hash').write(path := tmp_path / NOVELTY_FILE)
    whole = path.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 0x40]), whole.replace(b'values', b'valuez')):
        path.write_bytes(damaged)
        with pytest.raises(Mistake, match=f'{NOVELTY_FILE}: .*copy'):
            Novelty.read(path, 'hash')


def test_too_few_images_are_refused():
    with pytest.raises(Mistake, match='2 training images for 2 features'):
        Novelty.fit(normal(2), 'hash')


@pytest.mark.parametrize('kind', KINDS)
def test_strangers_are_images_and_the_same_for_a_seed(kind):
    first, second = ([*strangers(kind, 20, seed=3)] for _ in range(2))
    assert [name for name, _ in first] == [f'{kind}_{number:02d}' for number in range(20)]
    for (_, one), (_, other) in zip(first, second, strict=True):
        assert one.dtype == np.uint8
        assert one.ndim == 3
        assert one.shape[2] == 3
        assert np.array_equal(one, other)


def test_the_shipped_network_knows_what_is_no_lesion():
    """Two of each kind, of which the measurement in the card has more."""
    inferencer = LesionInferencer(tta=False)
    for kind in KINDS:
        for prediction in inferencer([image for _, image in strangers(kind, 2)]):
            assert prediction.novelty > 1
            assert prediction.note == UNLIKE


def test_an_empty_mask_is_said():
    nothing = LesionPrediction('x', None, (2, 2), mask=np.zeros((2, 2), bool))
    assert nothing.note == NO_LESION
    assert LesionPrediction('x', None, (2, 2), mask=np.ones((2, 2), bool), novelty=0.9).note == ''
    assert LesionPrediction('x', None, (2, 2), mask=np.ones((2, 2), bool), novelty=1.1).note == UNLIKE


def test_table_json_overlay_and_terminal_say_it(tmp_path, capsys):
    Image.fromarray(np.full((64, 80, 3), (0, 0, 255), np.uint8)).save(tmp_path / 'blue.png')
    out = tmp_path / 'out'
    more = ['--json', str(tmp_path / 'lines'), '--overlays', '--no-tta']
    assert main(['predict', str(tmp_path / 'blue.png'), '--out-dir', str(out), *more]) == 0
    assert f'({UNLIKE})' in capsys.readouterr().out
    (row,) = csv.DictReader((out / 'predictions.csv').open(newline=''))
    assert row['note'] == UNLIKE
    found = json.loads((tmp_path / 'lines').read_text())
    assert found['note'] == UNLIKE
    assert found['novelty'] > 1
    plain = LesionInferencer(tta=False)(tmp_path / 'blue.png')
    captions = 1 + bool(plain.contours)
    with Image.open(out / 'overlays' / 'blue.jpg') as picture:
        assert picture.height > 64 + 10 * (captions + 1)  # a line more than probabilities and key need


def test_a_wrong_folder_of_images_costs_no_novelty_that_is_there(tmp_path, repository):
    folder = tmp_path / 'model'
    shutil.copytree(model_folder(DEFAULT_MODEL).config.parent, folder)
    tool = run_path(str(repository / 'tools' / 'fit_novelty.py'))
    parser = argparse.ArgumentParser()
    tool['add_arguments'](parser)
    with pytest.raises(MissingFile):
        tool['run'](parser.parse_args([str(folder), '--data-root', str(tmp_path / 'typo')]))
    assert LesionInferencer(folder, tta=False).novelty is not None


@pytest.mark.long
def test_the_command_fits_and_measures(tmp_path, capsys, repository):
    """On painted lesions, which are then the known ones: new ones pass, and blank images do not."""
    folder = tmp_path / 'model'
    shutil.copytree(model_folder(DEFAULT_MODEL).config.parent, folder)
    SyntheticLesions(seed=1, shape=(48, 64)).write(tmp_path / 'data', num_train=400, num_val=30, num_test=1)
    tool = run_path(str(repository / 'tools' / 'fit_novelty.py'))
    parser = argparse.ArgumentParser()
    tool['add_arguments'](parser)
    tool['run'](parser.parse_args([str(folder), '--data-root', str(tmp_path / 'data')]))
    shares = {
        line[:24].strip(): line.split('%')[0].split()[-1]
        for line in capsys.readouterr().out.splitlines()
        if '%  ' in line
    }
    assert float(shares['validation split']) < 20
    assert float(shares['blank']) == float(shares['noise']) == 100
    network = networks_in((inferencer := LesionInferencer(folder, tta=False)).network)[0]
    image = SyntheticLesions(seed=1, shape=(48, 64)).sample('val', 0)[0]
    assert inferencer.novelty.network == read_metadata(folder / 'weights.safetensors')[HASH]
    expected = inferencer.novelty.of(shared_features(network, inferencer.inputs(image)))
    assert inferencer(image).novelty == pytest.approx(float(expected[0]))
