"""Passing with every gate open, and no passing, on numbers worked out by hand."""

import pytest
import torch

from mmskin.errors import Mistake
from mmskin.models.passing.base import NoPassing
from mmskin.models.passing.feature_passing import UngatedPassing
from mmskin.registry import MODELS

ONE = dict(cls=1, seg=1)
X = dict(cls=torch.full((1, 1, 1, 1), 2.0), seg=torch.full((1, 1, 1, 1), 3.0))
F_OLD = dict(cls=torch.full((1, 1, 1, 1), 10.0), seg=torch.full((1, 1, 1, 1), 20.0))


def test_all_of_the_message_is_added():
    """f_seg + ReLU(0.5 * 2 + 1) = 22, and f_cls + ReLU(-3 + 1) = 10."""
    operator = UngatedPassing(ONE, ONE, op=dict(type='SumOp', identity_init=False))
    for route, weight in (('cls2seg', 0.5), ('seg2cls', -1.0)):
        operator.routes[route].message.conv.weight.data.fill_(weight)
        operator.routes[route].message.conv.bias.data.fill_(1)
    new = operator(X, F_OLD)
    assert {task: value.item() for task, value in new.items()} == dict(cls=10, seg=22)


def test_it_has_no_gate():
    operator = UngatedPassing(ONE, ONE)
    names = [name for name, _ in operator.named_parameters()]
    assert names
    assert not any('gate' in name for name in names)
    assert operator.gates(X, F_OLD) == {}


def test_options_of_a_gate_are_refused():
    with pytest.raises(ValueError, match="gate_reads is 'both', but there is no gate"):
        UngatedPassing(ONE, ONE, gate_reads='both')
    with pytest.raises(Mistake, match="^UngatedPassing sets 'gate' itself; leave it out$"):
        MODELS.build(dict(type='UngatedPassing', in_channels=ONE, out_channels=ONE, gate=dict(type='SpatialGate')))


def test_no_passing():
    operator = NoPassing(ONE, ONE, routes=[('cls', 'seg')])
    assert operator(X, F_OLD) == F_OLD
    assert not list(operator.parameters())
    assert operator.gates(X, F_OLD) == {}
