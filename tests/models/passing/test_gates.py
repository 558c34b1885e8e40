"""Gates on numbers worked out by hand; what all gates keep to is in test_contracts.py."""

from math import log

import pytest
import torch

from mmskin.models.passing.feature_passing import GatedFeaturePassing
from mmskin.models.passing.gates import ChannelGate, ConvMessage, ElementwiseGate, ScalarGate, SpatialGate

# Two channels of two positions; their averages are 2 and 0.
X = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]])


def set_conv(gate, weight, bias):
    gate.conv.weight.data = torch.tensor(weight, dtype=torch.float32).reshape(gate.conv.weight.shape)
    gate.conv.bias.data = torch.tensor(bias, dtype=torch.float32)
    return gate


@pytest.mark.parametrize('kernel_size', [2, 3, 4])
@pytest.mark.parametrize('module', [ConvMessage, ElementwiseGate, SpatialGate])
def test_any_kernel_keeps_the_map_as_large_as_it_is(module, kernel_size):
    assert module(2, 1, kernel_size)(torch.randn(2, 2, 5, 7)).shape == (2, 1, 5, 7)


def test_channel_gate():
    """sigmoid(log(3) / 2 * 2) = 3/4 and sigmoid(-log 3) = 1/4, from the averages."""
    gate = set_conv(ChannelGate(2, 2), [[log(3) / 2, 5], [0, 7]], [0, -log(3)])
    torch.testing.assert_close(gate(X), torch.tensor([[[[3 / 4]], [[1 / 4]]]]))


def test_spatial_gate():
    """sigmoid(log(3) (x - 2)) at x = 1 and 3, whatever the message's channels."""
    gate = set_conv(SpatialGate(2, 9), [log(3), 0], [-2 * log(3)])
    torch.testing.assert_close(gate(X), torch.tensor([[[[1 / 4, 3 / 4]]]]))


def test_scalar_gate():
    """sigmoid(log(3) * 2 - log(3)) from the average of the first channel."""
    gate = set_conv(ScalarGate(2, 9), [log(3), 0], [-log(3)])
    torch.testing.assert_close(gate(X), torch.tensor([[[[3 / 4]]]]))


@pytest.mark.parametrize('gate', ['ChannelGate', 'SpatialGate', 'ScalarGate', 'ElementwiseGate'])
def test_the_target_may_decide(gate):
    """A gate that reads the target does not change with the source, and the other way round."""
    torch.manual_seed(0)
    widths = dict(a=2, b=2)
    changed = {}
    for reads in ('source', 'target', 'both'):
        operator = GatedFeaturePassing(widths, widths, [('a', 'b')], gate=dict(type=gate), gate_reads=reads)
        inputs = [dict(a=X * a, b=X * b) for a, b in ((1, 1), (-2, 1), (1, -2))]
        first, *others = (operator.gates(maps, maps)['a2b'] for maps in inputs)
        changed[reads] = [not torch.equal(first, rates) for rates in others]
    assert changed == dict(source=[True, False], target=[False, True], both=[True, True])
