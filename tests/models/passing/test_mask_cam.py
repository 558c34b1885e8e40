"""Handing on masks and activation maps, on numbers worked out by hand."""

from math import log

import pytest
import torch

from mmskin.models.passing.attention import MaskCAMPassing
from mmskin.testing import PassingContract

ONE = dict(cls=1, seg=1)
OUTPUTS = dict(cls=torch.tensor([[[[1.0, 3.0]]]]), seg=torch.tensor([[[[0.0, 1.0]]]]))


class TestSeveralMaps(PassingContract):
    """The same contract with an activation map per class."""

    cfg = dict(type='MaskCAMPassing')
    given = {**PassingContract.given, 'num_maps': dict(a=3, b=2)}


def test_the_mask_is_concatenated():
    """A mask of sigmoid(0) = 1/2 and sigmoid(log 3) = 3/4 beside f: 2 f + 4 M - 1."""
    operator = MaskCAMPassing(ONE, ONE, [('seg', 'cls')])
    route = operator.routes['seg2cls']
    route.head.weight.data.fill_(log(3))
    route.head.bias.data.fill_(0)
    route.op.conv.weight.data = torch.tensor([2.0, 4.0]).reshape(1, 2, 1, 1)
    route.op.conv.bias.data.fill_(-1)
    new = operator(OUTPUTS, OUTPUTS)
    torch.testing.assert_close(new['cls'], torch.tensor([[[[2 + 2 - 1.0, 6 + 3 - 1.0]]]]))
    torch.testing.assert_close(operator.gates(OUTPUTS, OUTPUTS)['seg2cls'], torch.tensor([[[[1 / 2, 3 / 4]]]]))


def test_a_map_per_class():
    operator = MaskCAMPassing(ONE, ONE, num_maps=dict(cls=3))
    shapes = {name: tuple(maps.shape) for name, maps in operator.gates(OUTPUTS, OUTPUTS).items()}
    assert shapes == dict(cls2seg=(1, 3, 1, 2), seg2cls=(1, 1, 1, 2))


def test_only_the_maps_are_handed_on():
    """Of the source's features nothing comes but what its maps say: a source that predicts the same gives the same."""
    torch.manual_seed(0)
    operator = MaskCAMPassing(dict(a=2, b=2), dict(a=2, b=2), [('a', 'b')], identity_init=False)
    operator.routes['a2b'].head.weight.data = torch.tensor([1.0, 1.0]).reshape(1, 2, 1, 1)
    a, b = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1), torch.randn(1, 2, 3, 3)
    first, second = (operator(maps, maps)['b'] for maps in (dict(a=a, b=b), dict(a=a.flip(1), b=b)))
    torch.testing.assert_close(first, second)


def test_an_unknown_task():
    with pytest.raises(ValueError, match='num_maps names sag; the tasks are cls, seg'):
        MaskCAMPassing(ONE, ONE, num_maps=dict(sag=2))
