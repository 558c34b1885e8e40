"""Feature-wise linear modulation on numbers worked out by hand."""

from math import log

import pytest
import torch

from mmskin.models.passing.attention import FiLMPassing
from mmskin.testing import PassingContract

ONE = dict(cls=1, seg=1)
# The classification's map averages to 2; the segmentation's has a value per position.
OUTPUTS = dict(cls=torch.tensor([[[[1.0, 3.0]]]]), seg=torch.tensor([[[[0.0, log(3)]]]]))


class TestMasks(PassingContract):
    """The same contract where a branch other than 'seg' outlines something."""

    cfg = dict(type='FiLMPassing', masks=['b', 'c'])

    # its network has tasks of other names; test_contracts.py asks these of the default
    test_in_a_network = test_at_several_scales = test_joined_network_starts_as_the_separate_ones = None


def build(**options):
    """g = 1 + 0.5 c and b = -c + 1 on every route."""
    operator = FiLMPassing(ONE, ONE, **options)
    for route in operator.routes.values():
        route.film.weight.data = torch.tensor([0.5, -1.0]).reshape(2, 1, 1, 1)
        route.film.bias.data = torch.tensor([0.0, 1.0])
    return operator


def test_segmentation_is_modulated_by_the_average_of_classification():
    """c = 2, so 2 f - 1."""
    new = build(routes=[('cls', 'seg')])(OUTPUTS, OUTPUTS)
    torch.testing.assert_close(new['seg'], 2 * OUTPUTS['seg'] - 1)
    assert new['cls'] is OUTPUTS['cls']


def test_classification_is_modulated_by_its_average_under_the_mask():
    """A mask of 1/2 and 3/4 over 1 and 3: c = (1/2 + 9/4) / (5/4) = 2.2, so 2.1 f - 1.2."""
    operator = build(routes=[('seg', 'cls')])
    operator.routes['seg2cls'].mask.weight.data.fill_(1)
    operator.routes['seg2cls'].mask.bias.data.fill_(0)
    torch.testing.assert_close(operator.gates(OUTPUTS, OUTPUTS), dict(seg2cls=torch.tensor([[[[1 / 2, 3 / 4]]]])))
    torch.testing.assert_close(operator(OUTPUTS, OUTPUTS)['cls'], 2.1 * OUTPUTS['cls'] - 1.2)


def test_an_empty_mask_leaves_numbers():
    operator = build(routes=[('seg', 'cls')])
    operator.routes['seg2cls'].mask.bias.data.fill_(-1e4)
    assert operator(OUTPUTS, OUTPUTS)['cls'].isfinite().all()


def test_only_masks_are_shown_as_gates():
    assert build().gates(OUTPUTS, OUTPUTS).keys() == {'seg2cls'}
    assert build(masks=[]).gates(OUTPUTS, OUTPUTS) == {}


def test_an_unknown_mask():
    with pytest.raises(ValueError, match='masks names sag; the tasks are cls, seg'):
        build(masks=['sag'])
