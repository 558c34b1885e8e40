"""Why a network answers as it does, asked alone and from several threads at once."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from threading import Barrier

import numpy as np
import pytest
import torch
from PIL import Image

from mmskin.datasets.tables import CLASSES
from mmskin.errors import Mistake
from mmskin.explain.explanation import Effect, Explanation, class_activation, draw_explanation, explain
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import LesionPrediction
from mmskin.models.watch import closed, unwrap, watched
from mmskin.readers.images import read_image
from mmskin.registry import MODELS


@pytest.fixture(scope='module')
def files(repository, tmp_path_factory):
    """Config and weights of the demo's network, random but for a passing that is felt."""
    from mmskin.config import load_config

    path = repository / 'configs' / 'fpm' / 'r18_synthetic.py'
    torch.manual_seed(0)
    model = MODELS.build(load_config(path).model)
    for name, parameter in model.passing.named_parameters():
        if name.endswith('op.scale'):
            parameter.data.fill_(5.0)
    checkpoint = tmp_path_factory.mktemp('explain') / 'weights.pth'
    torch.save(model.state_dict(), checkpoint)
    return path, checkpoint


@pytest.fixture(scope='module')
def inferencer(files):
    return LesionInferencer(*files, device='cpu')


@pytest.fixture(scope='module')
def source():
    pixels = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    return ImageSource('noise', np.asarray(Image.fromarray(pixels).resize((120, 80))))


def logits(inferencer, source):
    with torch.no_grad():
        return inferencer.network(inferencer.inputs([source]), mode='tensor')


def test_routes_are_named_by_block(inferencer):
    assert list(inferencer.network.routes()) == ['layer3.1/cls2seg', 'layer3.1/seg2cls']


def test_a_closed_route_changes_its_target_alone_and_opens_again(inferencer, source):
    whole = logits(inferencer, source)
    with closed(*inferencer.network.routes()['layer3.1/seg2cls']):
        without = logits(inferencer, source)
    assert torch.equal(without['seg'], whole['seg'])
    assert not torch.allclose(without['cls'], whole['cls'])
    assert torch.equal(logits(inferencer, source)['cls'], whole['cls'])


def test_all_routes_closed_is_a_network_without_passing(inferencer, source):
    network = inferencer.network
    seg2cls, cls2seg = (network.routes()[f'layer3.1/{name}'] for name in ('seg2cls', 'cls2seg'))
    with closed(*seg2cls), closed(*cls2seg):
        without = logits(inferencer, source)
    network.use_passing = False
    try:
        plain = logits(inferencer, source)
    finally:
        network.use_passing = True
    assert all(torch.equal(without[task], plain[task]) for task in plain)


def test_an_image_need_not_be_a_source(inferencer, source):
    assert explain(inferencer, source.content).prediction.label == explain(inferencer, source).prediction.label
    with pytest.raises(Mistake, match='explain takes one image; 2 were given'):
        explain(inferencer, [source, source])
    with pytest.raises(Mistake, match='int is not an image'):
        explain(inferencer, 5)


def test_an_explanation_has_every_part(inferencer, source, tmp_path):
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
    number = CLASSES.index(name)
    monkeypatch.setattr(
        inferencer.network.tasks['cls'], 'decide', lambda sample: setattr(sample, 'cls_label', torch.tensor([number]))
    )
    found = explain(inferencer, source)
    assert found.prediction.label == name
    expected = class_activation(inferencer.network, inferencer.inputs([source]), 'cls', [number])[0]
    np.testing.assert_array_equal(found.activation, expected)


def test_an_image_is_decoded_once(inferencer, source, monkeypatch):
    file = BytesIO()
    Image.fromarray(source.content).save(file, 'PNG')
    sizes = []
    monkeypatch.setattr(
        'mmskin.inference.image_sources.read_image',
        lambda content, min_size, *rest: sizes.append(min_size) or read_image(content, min_size, *rest),
    )
    explain(inferencer, ImageSource('noise', file.getvalue()))
    assert sizes == [inferencer.load.size]


def test_how_far_two_masks_are_apart():
    masks = np.zeros((3, 2, 4), bool)
    masks[0, :, :2], masks[1, :, 1:3] = True, True
    left, right, none = (LesionPrediction('x', None, (2, 4), mask=mask) for mask in masks)
    others = {'right': right, 'left': left, 'no mask': LesionPrediction('x', None, (2, 4))}
    found = Explanation(left, np.zeros((2, 4, 3), np.uint8), without=others).effects
    assert found == {
        'right': Effect(None, pytest.approx(2 / 3)),
        'left': Effect(None, 0),
        'no mask': Effect(None, None),
    }
    empty = Explanation(none, np.zeros((2, 4, 3), np.uint8), without={'same': none}).effects
    assert empty == {'same': Effect(None, 0)}


def test_a_route_that_moves_nothing_is_a_line_of_text(inferencer, source, tmp_path):
    """And no picture of the same outline; one that moves the mask is."""
    found = explain(inferencer, source)
    height = {}
    for scale in (0.0, 1.0):
        without = {
            name: replace(
                found.prediction,
                probabilities={key: value + 0.02 * scale for key, value in found.prediction.probabilities.items()},
            )
            for name in found.without
        }
        other = replace(found, without=without)
        assert len(other.lines) == 2
        assert all(('moves nothing' in line) == (scale == 0) for line in other.lines)
        assert all(one['moves_nothing'] == (scale == 0) for one in other.to_dict()['without'].values())
        draw_explanation(other, tmp_path / 'one.png')
        with Image.open(tmp_path / 'one.png') as picture:
            height[scale] = picture.height
    assert height[0.0] < 0.6 * height[1.0]  # a row less: bars are for what moves


def test_the_picture_of_a_narrow_image_stays_a_picture(inferencer, tmp_path):
    narrow = ImageSource('narrow', np.zeros((500, 1, 3), np.uint8))
    draw_explanation(Explanation(inferencer(narrow), narrow.content), tmp_path / 'narrow.png')
    with Image.open(tmp_path / 'narrow.png') as picture:
        assert picture.height < 4000


@pytest.fixture(scope='module')
def sources():
    pixels = np.random.default_rng(1).integers(256, size=(8, 6, 8, 3), dtype=np.uint8)
    return [
        ImageSource(f'noise_{n}', np.asarray(Image.fromarray(noise).resize((90, 70)))) for n, noise in enumerate(pixels)
    ]


def numbers(prediction):
    """All that a prediction says."""
    mask = None if prediction.mask is None else prediction.mask.tobytes()
    return prediction.image_id, prediction.label, prediction.probabilities, mask, prediction.gates


def reasons(explanation):
    """All that an explanation says."""
    without = {name: numbers(other) for name, other in explanation.without.items()}
    gates = {name: rates.tobytes() for name, rates in explanation.gates.items()}
    return numbers(explanation.prediction), explanation.activation.tobytes(), gates, without


def state(network):
    """What the network and its parts hold: weights, hooks, modes, and all other attributes."""
    held = {
        name: {key: copy.copy(value) for key, value in vars(part).items() if key not in ('_parameters', '_buffers')}
        for name, part in network.named_modules()
    }
    grads = {name: (parameter.requires_grad, parameter.grad) for name, parameter in network.named_parameters()}
    return held, grads, {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_unchanged(network, before):
    *was, weights = before
    *held, now = state(network)
    assert held == was
    assert all(torch.equal(now[name], tensor) for name, tensor in weights.items())


@pytest.fixture(params=[False, True], ids=['plain', 'tta'])
def asked(request, files):
    """The inferencer as it is, and over four views."""
    return LesionInferencer(*files, device='cpu', tta=request.param)


def test_eight_threads_get_the_answers_of_one(asked, sources):
    """They predict and explain in turn, each in an order of its own, so that all kinds of calls run side by side."""
    alone = {source.image_id: (numbers(asked(source)), reasons(explain(asked, source))) for source in sources}
    before, start = state(asked.network), Barrier(8)

    def ask(number):
        start.wait()
        found = {}
        for source in (*sources[number:], *sources[:number])[:2]:
            calls = [lambda: numbers(asked(source)), lambda: reasons(explain(asked, source))]  # noqa: B023 (called here)
            answers = [call() for call in (calls if number % 2 else calls[::-1])]
            found[source.image_id] = tuple(answers if number % 2 else answers[::-1])
        return found

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(ask, range(8)):
            assert found == {image_id: alone[image_id] for image_id in found}
    assert_unchanged(asked.network, before)


def test_explanations_that_meet_at_every_passing_keep_apart(inferencer, sources):
    """Whatever one closes or notes, the others are in the middle of their own."""
    alone = [reasons(explain(inferencer, source)) for source in sources[:4]]
    before, meet = state(inferencer.network), Barrier(4)

    def ask(source):
        with watched(lambda *_: meet.wait(60)):
            return reasons(explain(inferencer, source))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, sources[:4])) == alone
    assert_unchanged(inferencer.network, before)


def test_routes_closed_in_turn_open_again(inferencer, source):
    """Where one thread closes after another, and opens before it."""
    network, meet = unwrap(inferencer.network), Barrier(2)
    routes, before = network.routes(), state(network)
    expected = {}
    for name, route in routes.items():
        with closed(*route):
            expected[name] = logits(inferencer, source)
    whole = logits(inferencer, source)

    def first(name):
        with closed(*routes[name]):
            meet.wait(60)  # closed before the other's
            meet.wait(60)
            answer = logits(inferencer, source)
        meet.wait(60)  # open before the other's
        return answer, logits(inferencer, source)

    def second(name):
        meet.wait(60)
        with closed(*routes[name]):
            meet.wait(60)
            meet.wait(60)
            answer = logits(inferencer, source)
        return answer, logits(inferencer, source)

    with ThreadPoolExecutor(2) as pool:
        answers = {name: pool.submit(ask, name) for ask, name in zip((first, second), routes, strict=True)}
        for name, answer in answers.items():
            for found, right in zip(answer.result(), (expected[name], whole), strict=True):
                assert all(torch.equal(found[task], right[task]) for task in right)
    assert_unchanged(network, before)
    assert network.routes() == routes


def test_an_interrupted_call_leaves_nothing(inferencer, source):
    expected, before = numbers(inferencer(source)), state(inferencer.network)

    def interrupted(*_):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), watched(interrupted):
            explain(inferencer, source)
    assert numbers(inferencer(source)) == expected
    assert_unchanged(inferencer.network, before)
