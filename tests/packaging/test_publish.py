"""What a model folder holds, and that its network is the one that was trained."""

import json
import os
import re
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from safetensors.torch import load_file, save_file

from mmskin import LesionInferencer
from mmskin.cli import main
from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable
from mmskin.files import write_note
from mmskin.inference.zoo import model_folder
from mmskin.models.weights import pack, read_metadata, read_weights, without_lookups
from mmskin.packaging.card import METRICS, Recipe, failures, model_card, read_test
from mmskin.packaging.publish import config_for_testing, publish_weights
from mmskin.report.page import write_report

CLASSES = ('melanoma', 'nevus', 'seborrheic_keratosis')


def test_the_weights_are_the_checkpoints(small_config, checkpoint, tmp_path):
    folder = publish_weights(small_config, checkpoint, tmp_path / 'model')
    trained, published = read_weights(checkpoint), read_weights(folder.weights)
    assert trained.keys() == published.keys()
    assert all(torch.equal(published[name], tensor) for name, tensor in trained.items())
    assert read_metadata(folder.weights)['dtype'] == 'float32, int64'


def test_half_precision_keeps_vectors_and_numbers_whole(half_folder, checkpoint):
    trained, published = read_weights(checkpoint), load_file(half_folder.weights)
    assert {tensor.dtype for tensor in published.values() if tensor.ndim > 1} == {torch.float16}
    assert {tensor.dtype for tensor in published.values() if tensor.ndim == 1} == {torch.float32}
    assert all(torch.equal(tensor, trained[name]) for name, tensor in published.items() if tensor.ndim <= 1)
    assert all(torch.equal(tensor, trained[name].half()) for name, tensor in published.items() if tensor.ndim > 1)


def test_eight_bits_are_a_quarter_of_the_size_and_near_what_was_trained(small_config, checkpoint, tmp_path):
    folder = publish_weights(small_config, checkpoint, tmp_path / 'small', int8=True)
    trained, published = read_weights(checkpoint), read_weights(folder.weights)
    assert trained.keys() == published.keys()
    assert read_metadata(folder.weights)['dtype'] == 'float16, float32, int64, int8'
    names = 250 * len(trained)  # what the file says of a tensor and its factors
    assert folder.weights.stat().st_size < 0.28 * sum(tensor.nbytes for tensor in trained.values()) + names
    for name, tensor in trained.items():
        if tensor.ndim > 1:
            assert torch.linalg.vector_norm(published[name] - tensor) <= 0.01 * torch.linalg.vector_norm(tensor), name
        else:
            assert torch.equal(published[name], tensor), name

    tensors = load_file(folder.weights)
    name = next(name for name in tensors if name.endswith('@scale'))
    save_file({**tensors, name: tensors[name][1:]}, folder.weights)
    with pytest.raises(ValueError, match=f'{folder.weights}: the factors of {name}'):
        read_weights(folder.weights)


@pytest.mark.parametrize('size', [1e3, 1, 1e-3, 1e-4, 0])
def test_eight_bits_suit_weights_of_any_size(tmp_path, size):
    """Networks with batch norm may have all weights of a layer near 1e-3."""
    weights = size * torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    save_file(pack('w', weights), tmp_path / 'w.safetensors')
    error = read_weights(tmp_path / 'w.safetensors')['w'] - weights
    assert torch.linalg.vector_norm(error) <= 0.01 * torch.linalg.vector_norm(weights)


def test_publishing_twice_gives_the_same_file(small_config, checkpoint, half_folder, tmp_path):
    again = publish_weights(small_config, checkpoint, tmp_path / 'again', half=True)
    assert read_metadata(again.weights) == read_metadata(half_folder.weights)
    assert again.config.read_text() == half_folder.config.read_text()


def test_the_metadata_name_config_and_classes(half_folder):
    metadata = read_metadata(half_folder.weights)
    assert json.loads(metadata['classes']) == list(CLASSES)
    assert (metadata['config'], metadata['format_version']) == ('r18_synthetic', '1')
    assert len(metadata['sha256']) == 64


def test_the_config_has_nothing_of_training_and_looks_nothing_up(half_folder, repository):
    text = half_folder.config.read_text()
    cfg = Config.fromfile(str(half_folder.config))
    assert str(repository) not in text
    assert not {'train_dataloader', 'train_cfg', 'optim_wrapper', 'stages', 'load_from', 'work_dir'} & cfg.keys()
    assert cfg.model.backbone.chain['weights'] is None
    assert cfg.default_scope == 'mmskin'
    assert 'read_base' not in text


def test_lookups_are_taken_out_at_any_depth():
    part = dict(a=[dict(weights='imagenet', depth=18)], init_cfg=dict(type='Pretrained'), b=('x', dict(init_cfg=1)))
    assert without_lookups(part) == dict(a=[dict(weights=None, depth=18)], b=('x', {}))
    assert without_lookups(dict(type='FixedWeights', weights=dict(seg=2.0)))['weights'] == dict(seg=2.0)


def test_hooks_that_train_stay_behind(repository):
    cfg = load_config(repository / 'configs/fpm/lite0_isic2017.py')
    assert [hook['type'] for hook in config_for_testing(cfg).custom_hooks] == ['ChannelsLast']


def test_a_place_on_this_machine_is_refused(repository):
    cfg = load_config(repository / 'configs/fpm/r18_synthetic.py', data_root='/home/me/isic')
    with pytest.raises(ValueError, match=r'would hold /home/me/isic, which is a place on this machine'):
        config_for_testing(cfg)


def test_a_level_of_the_network_is_no_place_on_this_machine(repository):
    cfg = config_for_testing(load_config(repository / 'configs/fpm/convnext_synthetic.py'))
    assert cfg.model.backbone.split_after == '/8'


def test_another_networks_checkpoint_is_refused(repository, checkpoint, tmp_path):
    cfg = load_config(repository / 'configs/fpm/lite0_isic2017.py')
    with pytest.raises(ValueError, match='was trained with another config'):
        publish_weights(cfg, checkpoint, tmp_path / 'model')
    assert not (tmp_path / 'model').exists()


def test_files_of_something_else_are_not_replaced(small_config, checkpoint, tmp_path):
    """A project's own README.md and config.py, where its folder is named by mistake."""
    (tmp_path / 'README.md').write_text('mine')
    with pytest.raises(Mistake, match=r'README.md: is not part of a published model and would be replaced'):
        publish_weights(small_config, checkpoint, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['README.md']
    for name in (' ', '\n'):
        with pytest.raises(Mistake, match='the name of the model .* is empty'):
            publish_weights(small_config, checkpoint, tmp_path / name)


def test_the_results_of_another_network_are_refused(small_config, checkpoint, half_folder, tested, tmp_path):
    """Those of the checkpoint or of the folder itself are its own, however often they are published."""
    (tmp_path / 'small.py').write_text(small_config.pretty_text)
    state = torch.load(checkpoint)
    state['state_dict'] = {name: tensor * 2 for name, tensor in state['state_dict'].items()}
    torch.save(state, tmp_path / 'other.pth')
    out, results = str(tmp_path / 'model'), ['--results', str(tested / 'results.json')]
    config = str(tmp_path / 'small.py')
    assert main(['publish', config, str(tmp_path / 'other.pth'), out, *results]) == 2
    assert not (tmp_path / 'model').exists()
    assert main(['publish', config, str(checkpoint), out, *results]) == 2  # the half was tested
    write_note(tmp_path / 'audit.json', {'weights': 'of another network'})
    audit = ['--audit', str(tmp_path / 'audit.json')]
    assert main(['publish', config, str(checkpoint), out, '--half', *results, *audit]) == 2
    assert main(['publish', config, str(checkpoint), out, '--half', *results]) == 0
    assert main(['publish', str(half_folder.config.parent), out, *results]) == 0


def test_a_publication_that_ends_midway_leaves_the_earlier_model(half_folder, small_config, checkpoint, tmp_path):
    before = {path.name: path.read_bytes() for path in half_folder}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(KeyboardInterrupt):
        publish_weights(small_config, checkpoint, tmp_path, card=Mock(side_effect=KeyboardInterrupt))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_publication_that_ends_between_two_files_leaves_no_model_of_two(
    half_folder, small_config, checkpoint, tmp_path, monkeypatch
):
    """New weights next to the config and the card of those that were there would pass for one model."""
    for path in half_folder:
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def replace(self, target):
        if target.name == 'config.py':
            raise KeyboardInterrupt
        os.replace(self, target)

    monkeypatch.setattr(Path, 'replace', replace)
    with pytest.raises(KeyboardInterrupt):
        publish_weights(small_config, checkpoint, tmp_path, card=lambda folder: '')
    with pytest.raises(Mistake, match=r'not a model folder.*: README\.md missing'):
        model_folder(tmp_path)


def test_a_changed_model_folder_is_refused(half_folder, tmp_path):
    data = bytearray(half_folder.weights.read_bytes())
    data[-1] ^= 1
    (tmp_path / 'weights.safetensors').write_bytes(data)
    for path in (half_folder.config, half_folder.card):
        (tmp_path / path.name).write_text(path.read_text())
    with pytest.raises(ValueError, match=r'its tensors are not those that were published \(wrong sha256\)'):
        read_weights(model_folder(tmp_path).weights)


@pytest.mark.parametrize('published', [True, False])
def test_classes_in_another_order_than_in_training_are_refused(published, half_folder, data_root, checkpoint, tmp_path):
    """Each would be taken for another, in tests and in predictions."""
    weights = half_folder.weights
    if not published:
        weights = tmp_path / 'epoch_1.pth'
        meta = {'dataset_meta': {'classes': CLASSES}}
        torch.save({'state_dict': read_weights(checkpoint), 'meta': meta}, weights)
    cfg = load_config(half_folder.config, str(tmp_path), str(data_root))
    for classes, is_refused in ((['MEL', 'NV', 'SK'], False), ([*CLASSES[:2], 'other'], False), (CLASSES[::-1], True)):
        cfg.test_dataloader.dataset.metainfo = dict(classes=classes)
        cfg.dump(tmp_path / 'config.py')
        if not is_refused:
            assert LesionInferencer(tmp_path / 'config.py', weights).classes == classes
            continue
        with pytest.raises(Mistake, match=r"classes=\['melanoma', .*, and the data set has \['seborrheic_keratosis', "):
            LesionInferencer(tmp_path / 'config.py', weights)
        with pytest.raises(Mistake, match='name them in the order of the training'):
            evaluate_checkpoint(cfg, weights)


def test_the_card_of_a_tested_model(half_folder, tested, small_config):
    test = read_test(tested / 'results.json', tta=False)
    card = model_card(half_folder, small_config, Recipe('python tools/train.py X', 'Took a second.'), [test, test])
    head, body = card.removeprefix('---\n').split('\n---\n', 1)
    found = yaml.safe_load(head)['model-index'][0]['results'][0]['metrics']
    results = json.loads((tested / 'results.json').read_text())
    assert {metric['type']: metric['value'] for metric in found}['seg/JA'] == pytest.approx(results['seg/JA'], abs=1e-4)
    assert f'{results["seg/JA"]:.3f} (' in body
    assert read_metadata(half_folder.weights)['sha256'] in body
    for words in ('Not a medical device', 'Known failure cases', 'worst outlines: SYN', 'Took a second.', '12 images'):
        assert words in body
    assert max(map(len, body.splitlines())) < 2000


def test_the_card_of_an_untested_model_says_so(half_folder, small_config):
    card = model_card(half_folder, small_config, Recipe('python tools/train.py X'))
    assert 'Not measured yet.' in card
    assert 'model-index' not in card


def test_card_and_report_have_the_same_intervals(half_folder, tested, small_config):
    test = read_test(tested / 'results.json', tta=False)
    card = model_card(half_folder, small_config, Recipe('python tools/train.py X'), [test])
    shown = dict(re.findall(r'^\| ((?:outline|diagnosis): .*?) \| (.*?) \|$', card, re.M))
    assert {*shown} == {*METRICS.values()}
    page = write_report(tested).read_text()
    cells = re.findall(r'<td>([\d.]+) <span class="muted">\[([\d.]+), ([\d.]+)\]', page)
    reported = {f'{value} ({low} to {high})' for value, low, high in cells}
    assert {*shown.values()} <= reported


def test_failures_by_hand():
    scores = np.eye(3)[[0, 1, 1, 1, 0, 1]] * [[0.5], [0.8], [0.5], [0.9], [1], [0.5]]
    columns = {
        'cls/gt_label': np.array([0.0, 0, 1, 2, np.nan, 1]),
        'cls/pred_label': np.array([0.0, 1, 1, 1, 0, 1]),
        **{f'cls/score_{name}': scores[:, index] for index, name in enumerate(CLASSES)},
        'seg/JA': np.array([0.9, 0.6, 0.7, 0.8, 0.5, 0.4]),
        'seg/mask_share': np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    }
    evaluation = PerImageTable([f'ISIC_{number}' for number in range(6)], columns)
    text = failures(evaluation)
    for row in (
        '| small (10.0–20.0 %) | 2 | 0.750 | 50% | 50% |',
        '| large (50.0–60.0 %) | 2 | 0.450 | 100% | 100% |',
        '| melanoma | 2 | 0.750 | 50% | 50% |',
        '| melanoma | 1 | 1 | 0 |',
        '| seborrheic keratosis | 0 | 1 | 0 |',
    ):
        assert row in text
    assert 'wrong diagnoses: ISIC_3 (seborrheic keratosis called nevus at 0.90), ISIC_1 (melanoma' in text
    assert 'worst outlines: ISIC_5 (JA 0.40), ISIC_4' in text


def test_results_of_another_test_are_refused(tested):
    with pytest.raises(ValueError, match=r'results\.json: the test was made without --tta'):
        read_test(tested / 'results.json', tta=True)


def test_a_card_says_of_other_data_nothing_about_skin(half_folder, small_config):
    card = model_card(half_folder, small_config, Recipe('python tools/train.py X'))
    assert 'How well it does on other data than these was not measured' in card
    assert 'fair skin' not in card


def test_results_without_per_image_numbers(tmp_path):
    write_note(tmp_path / 'results.json', {})
    write_note(tmp_path / 'test.json', {'test-time augmentation': 'no'})
    with pytest.raises(FileNotFoundError, match=r'per_image\.csv: no such file; mmskin test writes it'):
        read_test(tmp_path / 'results.json', tta=False)
