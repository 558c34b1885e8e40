"""Cross-stitch units: numbers worked out by hand, and the paper's matrix."""

import inspect
import re

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mmskin.models.passing.stitching import CrossStitchPassing
from mmskin.testing.contract import tiny_network

ONE = dict(a=1, b=1, c=1)


def maps(**values):
    """Maps of one channel and one row, (1, 1, 1, w)."""
    return {task: torch.tensor([[[row]]], dtype=torch.float32) for task, row in values.items()}


def check(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float32).expand_as(actual))


def test_every_source_gets_its_share_of_what_the_own_map_leaves():
    """0.9 of its own, and 0.1 / 2 of each other."""
    module = CrossStitchPassing(ONE, ONE, identity_init=False)
    new = module(maps(a=[0], b=[0], c=[0]), maps(a=[10], b=[20], c=[40]))
    check(new['a'], 9 + 1 + 2)
    check(new['b'], 18 + 0.5 + 2)
    check(new['c'], 36 + 0.5 + 1)


def test_one_source_gets_all_of_it():
    module = CrossStitchPassing(ONE, ONE, routes=[('b', 'a')], identity_init=False, own=0.7)
    outputs = maps(a=[10], b=[20], c=[40])
    new = module(outputs, outputs)
    check(new['a'], 7 + 6)
    assert new['b'] is outputs['b']
    assert new['c'] is outputs['c']


def test_each_channel_has_weights_of_its_own():
    module = CrossStitchPassing(dict(a=2, b=2), dict(a=2, b=2), routes=[('b', 'a')])
    module.targets['a'].stream.weight.data[:, 0, 0] = torch.tensor([1.0, 2.0])
    module.routes['b2a'].weight.data[:, 0, 0] = torch.tensor([-1.0, 0.5])
    outputs = {task: torch.tensor([pair]).view(1, 2, 1, 1) for task, pair in dict(a=(10.0, 20.0), b=(3.0, 4.0)).items()}
    check(module(outputs, outputs)['a'].flatten(), [10 - 3, 40 + 2])


def test_it_mixes_what_leaves_the_block():
    """Not what enters it: maps of one depth."""
    module = CrossStitchPassing(ONE, ONE, identity_init=False)
    outputs = maps(a=[10], b=[20], c=[40])
    first, second = (module(maps(a=[x], b=[x], c=[x]), outputs) for x in (0, 7))
    assert all(torch.equal(first[task], second[task]) for task in ONE)


def test_a_smaller_map_is_spread():
    """Two cells of 0 and 2 become four: 0, 1/2, 3/2, 2; at 10 a weight of 1/2 gives 0, 5, 15, 20."""
    module = CrossStitchPassing(ONE, ONE, routes=[('b', 'a')], identity_init=False, own=0.5)
    new = module({}, maps(a=[0, 0, 0, 0], b=[0, 20]))
    check(new['a'].flatten(), [0, 2.5, 7.5, 10])


def test_it_is_the_papers_matrix():
    """x~ = A x at every position and channel, for any number of tasks."""
    widths = dict(a=3, b=3, c=3)
    module = CrossStitchPassing(widths, widths)
    alpha = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(0))  # target, source, channel
    for i, target in enumerate(widths):
        module.targets[target].stream.weight.data[:, 0, 0] = alpha[i, i]
        for j, source in enumerate(widths):
            if source != target:
                module.routes[f'{source}2{target}'].weight.data[:, 0, 0] = alpha[i, j]
    x = torch.randn(3, 2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    new = module({}, dict(zip(widths, x, strict=True)))
    check(torch.stack(list(new.values())), torch.einsum('ijc,jnchw->inchw', alpha, x))


@pytest.mark.parametrize('options', [{}, dict(identity_init=False)])
def test_weights_may_be_of_any_size_so_it_has_no_gates(options):
    outputs = maps(a=[1], b=[2], c=[3])
    assert CrossStitchPassing(ONE, ONE, **options).gates(outputs, outputs) == {}


def test_the_documented_rate_is_the_units_alone():
    """What the docstring says to write gives the units 100 times the rate of the rest."""
    text = re.search(r'paramwise_cfg=(dict\(.*\))``', inspect.getdoc(CrossStitchPassing)).group(1)
    model = tiny_network(dict(type='CrossStitchPassing'))
    cfg = dict(optimizer=dict(type='SGD', lr=0.01), paramwise_cfg=eval(text))
    rates = {id(p): group['lr'] for group in build_optim_wrapper(model, cfg).param_groups for p in group['params']}
    units = {id(parameter) for parameter in model.passing.parameters()}
    assert {rates[key] for key in units} == {1.0}
    assert {rate for key, rate in rates.items() if key not in units} == {0.01}
