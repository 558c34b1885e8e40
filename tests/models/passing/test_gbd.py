"""Passing along the chain of branches and back, on numbers worked out by hand."""

from math import log

import pytest
import torch

from mmskin.models.passing.feature_passing import GBDPassing

THREE = dict(a=1, b=1, c=1)
OUTPUTS = {task: torch.full((1, 1, 1, 1), value) for task, value in (('a', 1.0), ('b', 2.0), ('c', 3.0))}


def fill(conv, weight, bias=0.0):
    conv.weight.data = torch.tensor(weight, dtype=torch.float32).reshape(conv.weight.shape)
    conv.bias.data.fill_(bias)


def build(**options):
    """Own parts of 1 f forth and 2 f back, messages of 10 h, gates of 3/4; both directions added, then 1 taken off."""
    operator = GBDPassing(THREE, THREE, kernel_size=1, identity_init=False, **options)
    for route in operator.routes.values():
        fill(route.message.conv, 10)
        fill(route.gate.conv, 0, log(3))
    for target in operator.targets.values():
        for own, weight in zip(target.own, (1, 2), strict=True):
            fill(own.conv, weight)
        fill(target.merge.conv, [1, 1], -1)
    return operator


def values(maps):
    return {task: pytest.approx(value.item(), rel=1e-5) for task, value in maps.items()}


def test_a_chain_of_three_both_ways():
    """Forth: 1, 2 + 7.5 * 1 = 9.5, 3 + 7.5 * 9.5 = 74.25. Back: c 6, b 4 + 7.5 * 6 = 49, a 2 + 7.5 * 49 = 369.5."""
    new = build()(OUTPUTS, OUTPUTS)
    assert values(new) == dict(a=1 + 1 + 369.5 - 1, b=2 + 9.5 + 49 - 1, c=3 + 74.25 + 6 - 1)


def test_neighbours_are_joined_by_default():
    assert {*build().ends.values()} == {('a', 'b'), ('b', 'a'), ('b', 'c'), ('c', 'b')}


def test_one_way():
    """No route ends in a, which hands on itself: 1. Forth in b: 2 + 7.5 * 1; nothing comes back: 4."""
    new = build(routes=[('a', 'b')])(OUTPUTS, OUTPUTS)
    assert values(new) == dict(a=1, b=2 + 9.5 + 4 - 1, c=3)


def test_the_middle_rests():
    """Then nothing passes, as a and c are not neighbours."""
    two = {task: OUTPUTS[task] for task in ('a', 'c')}
    assert build()(two, two) == two


def test_gates_read_the_source_before_messages_reached_it():
    """sigmoid(log(3) f) with f_b = 2: 9/10, though b has heard from a."""
    operator = build()
    fill(operator.routes['b2c'].gate.conv, log(3))
    gates = operator.gates(OUTPUTS, OUTPUTS)
    assert gates['b2c'].item() == pytest.approx(9 / 10)
    assert values(operator(OUTPUTS, OUTPUTS))['c'] == 3 + (3 + 9 * 9.5) + 6 - 1


def test_a_negative_message_is_cut_off():
    operator = build()
    fill(operator.routes['a2b'].message.conv, -10)
    assert values(operator(OUTPUTS, OUTPUTS))['b'] == 2 + 2 + 49 - 1


def test_the_order_of_tasks_is_the_chains():
    """c, a, b: a stands between."""
    operator = GBDPassing(dict(c=1, a=1, b=1), dict(c=1, a=1, b=1))
    assert {*operator.ends} == {'c2a', 'a2c', 'a2b', 'b2a'}
