"""PAD-Net's distillation on numbers worked out by hand."""

from math import log

import pytest
import torch

from mmskin.models.passing.distillation import PADNetPassing

THREE = dict(a=1, b=1, c=1)


def number(value):
    return torch.full((1, 1, 1, 1), float(value))


@pytest.mark.parametrize(('b', 'expected'), [(2, 10 + 3 / 4 * 6 + 1 / 2 * 4), (-2, 10 - 1 / 4 * 6 + 1 / 2 * 4)])
def test_a_gated_message_from_each_branch(b, expected):
    """From b, sigmoid(log(3) / 2 f_b) (3 f_b), which no ReLU cuts off; from c, sigmoid(0) (4 f_c) with f_c = 1."""
    operator = PADNetPassing(THREE, THREE, [('b', 'a'), ('c', 'a')], kernel_size=1, identity_init=False)
    for route, gate, message in (('b2a', log(3) / 2, 3), ('c2a', 0, 4)):
        operator.routes[route].gate.weight.data.fill_(gate)
        operator.routes[route].message.weight.data.fill_(message)
    inputs = {task: number(100) for task in THREE}  # they read what leaves the block
    new = operator(inputs, dict(a=number(10), b=number(b), c=number(1)))
    torch.testing.assert_close(new, dict(a=number(expected), b=number(b), c=number(1)))


def test_convolutions_are_3x3_without_bias():
    """As in the reimplementation that the docstring names."""
    shapes = {name: tuple(value.shape) for name, value in PADNetPassing(THREE, THREE, [('a', 'b')]).named_parameters()}
    kernel = (1, 1, 3, 3)
    assert shapes == {
        'routes.a2b.gate.weight': kernel,
        'routes.a2b.message.weight': kernel,
        'routes.a2b.op.scale': (1, 1, 1),
    }
