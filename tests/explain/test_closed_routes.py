"""What a network answers with a route closed."""

import json
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from mmskin.datasets.lesion_dataset import CLASSES
from mmskin.datasets.readers.any_image import read_image
from mmskin.explain.class_activation import class_activation
from mmskin.explain.closed_routes import closed, routes_of
from mmskin.explain.explanation import Effect, Explanation, effect_of, explain
from mmskin.explain.picture import draw_explanation
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import LesionPrediction
from mmskin.registry import MODELS


@pytest.fixture(scope='module')
def inferencer(repository, tmp_path_factory):
    """The demo's network, random but for a passing that is felt."""
    from mmskin.config import load_config

    path = repository / 'configs' / 'fpm' / 'r18_synthetic.py'
    torch.manual_seed(0)
    model = MODELS.build(load_config(path).model)
    for name, parameter in model.passing.named_parameters():
        if name.endswith('op.scale'):
            parameter.data.fill_(5.0)
    checkpoint = tmp_path_factory.mktemp('explain') / 'weights.pth'
    torch.save(model.state_dict(), checkpoint)
    return LesionInferencer(path, checkpoint, device='cpu')


@pytest.fixture(scope='module')
def source():
    pixels = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    return ImageSource('noise', np.asarray(Image.fromarray(pixels).resize((120, 80))))


def logits(inferencer, source):
    with torch.no_grad():
        return inferencer.network(inferencer.inputs([source]), mode='tensor')


def test_routes_are_named_by_block(inferencer):
    assert list(routes_of(inferencer.network)) == ['layer3.1/cls2seg', 'layer3.1/seg2cls']


def test_a_closed_route_changes_its_target_alone_and_opens_again(inferencer, source):
    whole = logits(inferencer, source)
    with closed(inferencer.network, 'layer3.1/seg2cls'):
        without = logits(inferencer, source)
    assert torch.equal(without['seg'], whole['seg'])
    assert not torch.allclose(without['cls'], whole['cls'])
    assert torch.equal(logits(inferencer, source)['cls'], whole['cls'])


def test_all_routes_closed_is_a_network_without_passing(inferencer, source):
    network = inferencer.network
    with closed(network, 'layer3.1/seg2cls'), closed(network, 'layer3.1/cls2seg'):
        without = logits(inferencer, source)
    network.use_passing = False
    try:
        plain = logits(inferencer, source)
    finally:
        network.use_passing = True
    assert all(torch.equal(without[task], plain[task]) for task in plain)


def test_an_explanation_has_every_part(inferencer, source, tmp_path):
    pytest.importorskip('captum', reason="captum is an extra: pip install 'mmskin[explain]'")
    found = explain(inferencer, source)
    names = ['layer3.1/cls2seg', 'layer3.1/seg2cls']
    assert found.activation.max() == pytest.approx(1)
    assert found.activation.min() >= 0
    assert list(found.gates) == list(found.without) == names
    assert all(rates.min() > 0 and rates.max() < 1 for rates in found.gates.values())
    before, after = found.prediction.probabilities, found.without['layer3.1/seg2cls'].probabilities
    assert max(abs(before[name] - after[name]) for name in before) > 1e-4
    assert found.without['layer3.1/cls2seg'].probabilities == before
    assert list(found.prediction.gates['layer3.1']) == ['cls2seg', 'seg2cls']
    for closed_route, without in found.without.items():
        others = {
            route: rate for route, rate in found.prediction.gates['layer3.1'].items() if route not in closed_route
        }
        assert without.gates == {'layer3.1': pytest.approx(others)}
    assert inferencer(source).gates == found.prediction.gates
    seg, cls = found.effects.values()
    assert cls.probability_change == max(abs(before[name] - after[name]) for name in before)
    assert (seg.probability_change, cls.mask_change) == (0, 0)
    assert json.loads(json.dumps(found.to_dict()))['without'][names[1]]['probability_change'] == cls.probability_change
    draw_explanation(found, tmp_path / 'explanation.png')
    with Image.open(tmp_path / 'explanation.png') as picture:
        assert np.asarray(picture).std() > 10


@pytest.mark.parametrize('name', CLASSES)
def test_the_evidence_is_for_the_class_that_is_named(inferencer, source, monkeypatch, name):
    """Which need not be the likeliest in the plain view, where several are averaged."""
    pytest.importorskip('captum', reason="captum is an extra: pip install 'mmskin[explain]'")
    number = CLASSES.index(name)
    monkeypatch.setattr(
        inferencer.network.tasks['cls'], 'decide', lambda sample: setattr(sample, 'pred_label', torch.tensor([number]))
    )
    found = explain(inferencer, source)
    assert found.prediction.label == name
    expected = class_activation(inferencer.network, inferencer.inputs([source]), 'cls', [number])[0]
    np.testing.assert_array_equal(found.activation, expected)


def test_an_image_is_decoded_once(inferencer, source, monkeypatch):
    pytest.importorskip('captum', reason="captum is an extra: pip install 'mmskin[explain]'")
    file = BytesIO()
    Image.fromarray(source.content).save(file, 'PNG')
    sizes = []
    monkeypatch.setattr(
        'mmskin.inference.image_sources.read_image',
        lambda content, min_size: sizes.append(min_size) or read_image(content, min_size),
    )
    explain(inferencer, ImageSource('noise', file.getvalue()))
    assert sizes == [inferencer.load.size]


def test_how_far_two_masks_are_apart():
    masks = np.zeros((3, 2, 4), bool)
    masks[0, :, :2], masks[1, :, 1:3] = True, True
    left, right, none = (LesionPrediction('x', None, (2, 4), mask=mask) for mask in masks)
    assert effect_of(left, right) == Effect(None, pytest.approx(2 / 3))
    assert effect_of(none, none) == Effect(None, 0)
    assert effect_of(left, LesionPrediction('x', None, (2, 4))) == Effect(None, None)


def test_the_picture_of_a_narrow_image_stays_a_picture(inferencer, tmp_path):
    narrow = ImageSource('narrow', np.zeros((500, 1, 3), np.uint8))
    draw_explanation(Explanation(inferencer(narrow), narrow.content), tmp_path / 'narrow.png')
    with Image.open(tmp_path / 'narrow.png') as picture:
        assert picture.height < 4000
