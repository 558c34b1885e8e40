"""NDDR: numbers worked out by hand, and one convolution over the concatenation as a reference."""

import pytest
import torch
import torch.nn.functional as F

from mmskin.models.passing.stitching import NDDRPassing

ONE = dict(a=1, b=1)
NOTHING = 1 / (1 + 1e-5) ** 0.5  # what batch norm makes of 1 before it has seen anything


def cells(**values):
    """Images of one channel and one cell, (N, 1, 1, 1)."""
    return {task: torch.tensor(row, dtype=torch.float32).view(-1, 1, 1, 1) for task, row in values.items()}


def check(actual, expected):
    torch.testing.assert_close(actual.flatten(), torch.as_tensor(expected, dtype=torch.float32).flatten())


def test_evaluation():
    """alpha 10 + beta 20 = 9 + 2 and alpha 20 + beta 10 = 18 + 1."""
    module = NDDRPassing(ONE, ONE, identity_init=False).eval()
    new = module({}, cells(a=[10], b=[20]))
    check(new['a'], [11 * NOTHING])
    check(new['b'], [19 * NOTHING])


def test_training():
    """Sums of 11 and 19 are -1 and 1 to batch norm, and ReLU cuts the first off."""
    module = NDDRPassing(ONE, ONE, routes=[('b', 'a')], identity_init=False)
    check(module({}, cells(a=[10, 20], b=[20, 10]))['a'], [0, 1 / (1 + 1e-5 / 16) ** 0.5])


def test_scale_goes_from_nothing_to_the_fused_map():
    """At a scale of 0.4: f + 0.4 (y - f), of f = 10 and y = 11."""
    module = NDDRPassing(ONE, ONE, routes=[('b', 'a')]).eval()
    check(module({}, cells(a=[10], b=[20]))['a'], [10])
    module.targets['a'].op.scale.data.fill_(0.4)
    check(module({}, cells(a=[10], b=[20]))['a'], [10 + 0.4 * (11 * NOTHING - 10)])


def test_it_starts_diagonal_and_sources_share_beta():
    widths = dict(a=3, b=2, c=4)
    module = NDDRPassing(widths, widths, routes=[('b', 'a'), ('c', 'a'), ('a', 'c')], alpha=0.8, beta=0.2)
    check(module.targets['a'].stream.conv.weight, 0.8 * torch.eye(3))
    check(module.routes['b2a'].conv.weight, 0.1 * torch.eye(3, 2))
    check(module.routes['c2a'].conv.weight, 0.1 * torch.eye(3, 4))
    check(module.routes['a2c'].conv.weight, 0.2 * torch.eye(4, 3))


@pytest.mark.parametrize('training', [True, False])
def test_the_sum_is_one_convolution_over_the_concatenation(training):
    widths = dict(a=3, b=2, c=4)
    torch.manual_seed(0)
    module = NDDRPassing(widths, widths, identity_init=False).train(training)
    maps = {task: torch.randn(2, width, 5, 7) for task, width in widths.items()}
    for parameter in module.parameters():
        parameter.data.normal_()
    target = module.targets['b']
    weight = torch.cat(
        [module.routes['a2b'].conv.weight, target.stream.conv.weight, module.routes['c2b'].conv.weight], dim=1
    )
    summed = F.conv2d(torch.cat([maps['a'], maps['b'], maps['c']], dim=1), weight)
    expected = F.batch_norm(
        summed, torch.zeros(2), torch.ones(2), target.norm.weight, target.norm.bias, training=training
    )
    torch.testing.assert_close(module({}, maps)['b'], expected.relu())


def test_one_value_a_channel_is_normalised_by_what_was_seen_before():
    """PyTorch's batch norm stops there; nothing is learnt from a variance of 0."""
    module = NDDRPassing(ONE, ONE, identity_init=False)
    check(module({}, cells(a=[10], b=[20]))['a'], [11 * NOTHING])
    assert module.targets['a'].norm.running_mean == 0
