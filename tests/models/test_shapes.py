"""A part that gives a wrong shape is named, also where the shape would fit by broadcasting."""

import re
from functools import partial

import pytest
import torch
from torch import nn

from mmskin.errors import Mistake
from mmskin.models.fusion import Fusion
from mmskin.models.passing.base import CarryingPassing, FeaturePassing, NoPassing
from mmskin.models.routes import read_routes
from mmskin.models.tasks.classification import Classification
from mmskin.models.weighting.weighting import Weighting
from mmskin.testing.contract import tiny_batch, tiny_network

SHAPES = {
    '1CHW': lambda x: x[:1],
    'N1111': lambda x: x.mean(dim=(1, 2, 3))[:, None, None, None, None],
    'N': lambda x: x.mean(dim=(1, 2, 3)),
    'none': lambda x: None,
    'numpy': lambda x: x.detach().numpy(),
}


class Convolution(nn.Module):
    """A gate or a message."""

    def __init__(self, in_channels, out_channels, change):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.change = change

    def forward(self, x):
        return self.change(self.conv(x).sigmoid())


class Join(nn.Module):
    """An op."""

    def __init__(self, channels, identity_init, change):
        super().__init__()
        self.change = change

    def forward(self, feature, message):
        return self.change(feature + message)


class Passing(FeaturePassing):
    """An operator."""

    def __init__(self, *args, change, **options):
        super().__init__(*args, **options)
        self.change = change

    def forward(self, inputs, outputs):
        return self.change(outputs)


class Rated(NoPassing):
    """An operator with gates and losses of its own."""

    quantity = 'what a test wants'

    def __init__(self, *args, rates=None, adds=None, **options):
        super().__init__(*args, **options)
        self.ends = {'cls2seg': ('cls', 'seg')}
        self.rates, self.adds = rates, adds or {}

    def gates(self, inputs, outputs):
        return self.rates

    def losses(self, inputs, outputs):
        return self.adds


class Mute(Classification):
    """A task that forgets to return its losses."""

    def loss(self, feats, samples):
        super().loss(feats, samples)


class Carrying(CarryingPassing):
    """An operator whose state is lost."""

    def forward(self, inputs, outputs, state=None):
        return {task: feature[:1] for task, feature in outputs.items()}, None


class Logits(nn.Module):
    """A head."""

    def __init__(self, in_channels, change):
        super().__init__()
        self.fc = nn.Linear(in_channels, 3)
        self.change = change

    def forward(self, feats):
        return self.change(self.fc(feats[-1].mean(dim=(2, 3))))


class Loss(nn.Module):
    """A loss."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, logits, target):
        return self.change(logits.square().mean())


class OnMaps(Fusion):
    """A fusion that loses its batch."""

    def on_maps(self, maps, values):
        return maps[:1]


class OnLogits(Fusion):
    """A fusion that loses its batch."""

    def on_logits(self, logits, values):
        return logits.mean(dim=0)


class Weights(Weighting):
    """A weighting."""

    def __init__(self, tasks, active_tasks, change):
        super().__init__(tasks, active_tasks)
        self.change = change

    def weights(self, values, present):
        return self.change(torch.ones_like(values))


def learn(passing='NoPassing', inputs=None, weighting=None, **cls):
    """The losses of a batch by the tiny network with these parts."""
    task = {'type': 'Classification', 'head': dict(type='ClsHead'), 'losses': dict(ce=dict(type='CrossEntropy')), **cls}
    seg = dict(type='Segmentation', head=dict(type='ASPPHead', rates=(1,)), losses=dict(dice=dict(type='DiceLoss')))
    network = tiny_network({'b.0': passing}, tasks=dict(cls=task, seg=seg), inputs=inputs, weighting=weighting)
    return network(*tiny_batch(), mode='loss')


@pytest.mark.parametrize(
    'change', [lambda x: x, lambda x: x.mean((2, 3), True), lambda x: x[:, :1], lambda x: x[..., :1]]
)
def test_rates_may_be_shared_by_channels_and_positions(change):
    assert learn(dict(type='GatedFeaturePassing', gate=dict(type=Convolution, change=change)))


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('part', ['gate', 'message', 'op'])
def test_a_gate_a_message_or_an_op(part, shape):
    kind = Join if part == 'op' else Convolution
    with pytest.raises(Mistake, match=f'{kind.__name__} returns .*; return .*2, 8, '):
        learn(dict(type='GatedFeaturePassing', **{part: dict(type=kind, change=SHAPES[shape])}))


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda maps: {'cls': maps['cls']}, 'Passing returns cls; return a dict with maps of cls, seg'),
        (lambda maps: [*maps.values()], 'Passing returns a list'),
        (lambda maps: None, 'Passing returns a NoneType'),
        (
            lambda maps: {task: x[:1] for task, x in maps.items()},
            'Passing returns (1, 8, 5, 6); return (2, 8, 5, 6)',
        ),
    ],
)
def test_an_operator(change, said):
    with pytest.raises(Mistake, match=re.escape(said)):
        learn(dict(type=Passing, change=change))
    with pytest.raises(Mistake, match=r'Carrying returns \(1, 8'):
        learn(dict(type=Carrying))


@pytest.mark.parametrize('shape', ['1CHW', 'none', 'numpy'])
def test_a_head(shape):
    with pytest.raises(Mistake, match=r'Logits returns .*; return .*\(2, C\)'):
        learn(head=dict(type=Logits, change=SHAPES[shape]))


@pytest.mark.parametrize('change', [float, lambda x: None, lambda x: x.detach(), lambda x: {'loss': x}])
def test_a_loss(change):
    with pytest.raises(Mistake, match='loss_ce of cls is .*; return a tensor computed from the logits'):
        learn(losses=dict(ce=dict(type=Loss, change=change)))


def test_a_loss_of_nothing_may_have_no_gradient():
    assert learn(losses=dict(ce=dict(type=Loss, change=lambda x: torch.zeros(()))))


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        (lambda x: {'loss': x, 'dice': x}, 'cls gives dice, and'),
        (lambda x: {'loss': x, 'dice': [x]}, 'cls gives dice, and'),
        (lambda x: {'accuracy': x.detach()}, 'cls gives accuracy, and'),
        (lambda x: {}, 'cls gives nothing, and'),
    ],
)
def test_a_loss_that_would_not_be_learnt(losses, message):
    class Own(Classification):
        def loss(self, feats, samples):
            return losses(self(feats).square().mean())

    with pytest.raises(Mistake, match=f'{message} what is learnt has "loss" in its name; rename or detach it'):
        learn(type=Own)
    with pytest.raises(Mistake, match='Mute gives None as the losses of cls; give a dict of tensors'):
        learn(type=Mute)
    with pytest.raises(Mistake, match='b.0 gives distance, and'):
        learn(dict(type=Rated, adds={'distance': torch.ones((), requires_grad=True)}))


@pytest.mark.parametrize('value', [0.0, 1.0])
@pytest.mark.parametrize('weighting', [None, 'DWA'])
def test_losses_without_a_gradient(value, weighting):
    class Own(Classification):
        def loss(self, feats, samples):
            return {'loss': torch.tensor(value)}

    with pytest.raises(Mistake, match='Own gives losses of cls without a gradient, from which nothing is learnt'):
        learn(type=Own, weighting=weighting)


@pytest.mark.parametrize(
    ('given', 'said'),
    [
        (None, 'gives None as head_loss; give a dict of tensors'),
        ({'loss': None}, 'gives None as loss of head_loss; give a tensor'),
    ],
)
def test_a_heads_losses(given, said):
    class Own(Classification):
        def head_loss(self, feats, samples, labelled):
            return given

    with pytest.raises(Mistake, match=f'Own {said}'):
        learn(type=Own, losses=None)


@pytest.mark.parametrize('change', [lambda x: None, lambda x: x[:1], lambda x: x.numpy()])
def test_an_estimate(change):
    class Own(Classification):
        def estimate(self, feats, size):
            return change(super().estimate(feats, size))

    network = tiny_network({'b.0': 'NoPassing'})
    network.tasks['cls'].__class__ = Own
    with pytest.raises(Mistake, match=r'Own returns .*; return .*\(2, C\)'), torch.no_grad():
        network(*tiny_batch(), mode='predict')


@pytest.mark.parametrize('kind', [OnMaps, OnLogits])
def test_a_fusion(kind):
    age = dict(age=dict(type='Numeric', minimum=0, maximum=120))
    with pytest.raises(Mistake, match=f'{kind.__name__} returns .*; return .2, '):
        learn(inputs=age, fusion=dict(type=kind))


@pytest.mark.parametrize('change', [partial(torch.unsqueeze, dim=1), torch.sum, torch.Tensor.tolist, lambda x: None])
def test_a_weighting(change):
    with pytest.raises(Mistake, match=r'Weights returns .*; return .*\(2\)'):
        learn(weighting=dict(type=Weights, change=change))


@pytest.mark.parametrize(
    ('rates', 'said'),
    [
        ({'seg2cls': torch.rand(2, 8, 5, 6)}, 'gates returns seg2cls; return a dict with rates of cls2seg'),
        (None, 'gates returns a NoneType; return a dict with rates of cls2seg'),
        ({'cls2seg': torch.rand(2, 8)}, 'returns (2, 8); return (N, C, h, w)'),
        ({'cls2seg': torch.full((2, 1, 1, 1), torch.nan)}, 'rates of cls2seg go from nan to nan; give 0 to 1'),
        ({'cls2seg': torch.full((2, 1, 1, 1), 1.5)}, 'rates of cls2seg go from 1.5 to 1.5; give 0 to 1'),
    ],
)
def test_rates(rates, said):
    network = tiny_network({'b.0': dict(type=Rated, rates=rates)}).eval()
    inputs, samples = tiny_batch()
    for read in (network.gates, lambda inputs: read_routes(network, inputs, samples)):
        with pytest.raises(Mistake, match=re.escape(said)):
            read(inputs)
