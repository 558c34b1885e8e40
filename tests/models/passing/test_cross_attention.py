"""Attention between branches: numbers worked out by hand, and torch's own module."""

from math import log, sqrt

import pytest
import torch
from torch import nn

from mmskin.models.passing.attention import CrossAttentionPassing


def test_attention_to_two_positions():
    """q = 1, k = (0, log 3): attention of 1/4 and 3/4 to values of 2 and 6 is 5; the output adds 10 * 5 + 1."""
    one = dict(a=1, b=1)
    operator = CrossAttentionPassing(one, one, [('a', 'b')], channels=1, num_heads=1, identity_init=False)
    route = operator.routes['a2b']
    for layer, weight in ((route.query, 1), (route.key, log(3) / 4), (route.value, 1), (route.out, 10)):
        layer.weight.data.fill_(weight)
    route.out.bias.data.fill_(1)
    outputs = dict(a=torch.tensor([[[[2.0, 6.0]]]]), b=torch.ones(1, 1, 1, 1))  # k = (log(3) / 2, log(3) 3 / 2)
    torch.testing.assert_close(operator.gates(outputs, outputs)['a2b'], torch.tensor([[[[1 / 3, 1]]]]))
    torch.testing.assert_close(operator(outputs, outputs)['b'], torch.full((1, 1, 1, 1), 1 + 51.0))


def test_heads_share_the_channels():
    """Each head divides by the root of its own width: four channels in two heads, by sqrt(2)."""
    operator = CrossAttentionPassing(dict(a=4, b=4), dict(a=4, b=4), [('a', 'b')], channels=4, num_heads=2)
    route = operator.routes['a2b']
    for layer in (route.query, route.key):
        nn.init.dirac_(layer.weight)
    a, b = torch.zeros(1, 4, 1, 2), torch.zeros(1, 4, 1, 1)
    b[0, :2], a[0, :2, 0, 1] = 1, sqrt(2) * log(3) / 2  # the first head: 1/4 and 3/4; the second: 1/2 each
    rates = operator.gates(dict(a=a, b=b), dict(a=a, b=b))['a2b']
    torch.testing.assert_close(rates, torch.tensor([[[[(1 / 4 + 1 / 2) / (3 / 4 + 1 / 2), 1]]]]))


def test_it_agrees_with_torch():
    """nn.MultiheadAttention with the same weights."""
    torch.manual_seed(0)
    widths = dict(a=5, b=8)
    operator = CrossAttentionPassing(widths, widths, [('a', 'b')], channels=8, num_heads=2, identity_init=False)
    route = operator.routes['a2b']
    reference = nn.MultiheadAttention(8, 2, kdim=5, vdim=5, batch_first=True)
    reference.q_proj_weight.data, reference.k_proj_weight.data, reference.v_proj_weight.data = (
        layer.weight.data.flatten(1) for layer in (route.query, route.key, route.value)
    )
    reference.in_proj_bias.data.zero_()
    reference.out_proj.weight.data, reference.out_proj.bias.data = route.out.weight.data.flatten(1), route.out.bias.data
    outputs = dict(a=torch.randn(2, 5, 3, 4), b=torch.randn(2, 8, 6, 7))
    a, b = (outputs[task].flatten(2).transpose(1, 2) for task in 'ab')
    expected, attention = reference(b, a, a)
    new = operator(outputs, outputs)['b'] - outputs['b']
    torch.testing.assert_close(new.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)
    rates = operator.gates(outputs, outputs)['a2b']
    expected = attention.mean(dim=1) / attention.mean(dim=1).amax(dim=1, keepdim=True)
    torch.testing.assert_close(rates.flatten(1), expected, rtol=1e-4, atol=1e-5)


def test_a_large_source_is_pooled():
    widths = dict(a=3, b=3)
    operator = CrossAttentionPassing(widths, widths, max_side=4)
    outputs = dict(a=torch.randn(1, 3, 9, 3), b=torch.randn(1, 3, 2, 11))
    rates = operator.gates(outputs, outputs)
    assert {name: tuple(value.shape[2:]) for name, value in rates.items()} == dict(a2b=(4, 3), b2a=(2, 4))
    assert all(value.max() == 1 for value in rates.values())


def test_heads_have_to_divide_the_channels():
    with pytest.raises(ValueError, match='64 channels cannot be shared by 5 heads'):
        CrossAttentionPassing(dict(a=3, b=3), dict(a=3, b=3), num_heads=5)
