"""MTAN's attention: numbers worked out by hand, and the paper's layers one after the other."""

from math import log

import torch
import torch.nn.functional as F

from mmskin.models.passing.attention import MTANPassing

ONE = dict(a=1, b=1)


def cells(**values):
    return {task: torch.full((1, 1, 1, 1), float(value)) for task, value in values.items()}


def check(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float32).expand_as(actual))


def attention(first, second, **options):
    """a -> b with W1 = ``first``, over [u ; prev], and W2 = ``second``; batch norm changes nothing."""
    module = MTANPassing(ONE, ONE, routes=[('a', 'b')], **options).eval()
    conv, norm, _, conv_2, norm_2, _ = module.routes['a2b'].attention
    norm.eps = norm_2.eps = 0
    conv.weight.data = torch.tensor(first).view(1, 2, 1, 1)
    conv_2.weight.data = torch.tensor(second).view(1, 1, 1, 1)
    return module


def test_the_targets_map_picks_of_the_sources():
    """[u ; prev] = [2 ; 3]: 0.5 * 2 + 1 * 3 = 4, s(log(3) / 4 * 4) = 3/4, of p = 8 that is 6."""
    module = attention([0.5, 1.0], [log(3) / 4], identity_init=False)
    inputs, outputs = cells(a=2, b=3), cells(a=8, b=20)
    new = module(inputs, outputs)
    check(new['b'], 20 + 6)
    assert new['a'] is outputs['a']
    check(module.gates(inputs, outputs)['a2b'], 3 / 4)


def test_relu_between():
    """-4 becomes 0, and s(0) = 1/2."""
    module = attention([-0.5, -1.0], [log(3) / 4], identity_init=False)
    check(module(cells(a=2, b=3), cells(a=8, b=20))['b'], 20 + 4)


def test_scale_starts_at_nought():
    module = attention([0.5, 1.0], [log(3) / 4])
    check(module(cells(a=2, b=3), cells(a=8, b=20))['b'], 20)
    module.routes['a2b'].op.scale.data.fill_(0.5)
    check(module(cells(a=2, b=3), cells(a=8, b=20))['b'], 20 + 3)


def test_several_sources_add_up_and_read_maps_as_they_left_the_block():
    """a -> b -> c -> b: at a rate of 1/2, b gets 4 of a and 16 of c, c gets 10 of b's 20."""
    routes = [('a', 'b'), ('b', 'c'), ('c', 'b')]
    module = MTANPassing(dict(a=1, b=1, c=1), dict(a=1, b=1, c=1), routes=routes, identity_init=False).eval()
    for route in module.routes.values():
        route.attention[3].weight.data.zero_()
    new = module(cells(a=2, b=3, c=4), cells(a=8, b=20, c=32))
    check(new['b'], 20 + 4 + 16)
    check(new['c'], 32 + 10)


def test_it_is_the_papers_module():
    torch.manual_seed(0)
    widths_in, widths_out = dict(a=3, b=5), dict(a=8, b=8)
    module = MTANPassing(widths_in, widths_out, routes=[('a', 'b')], identity_init=False)
    inputs, outputs = ({task: torch.randn(2, c, 5, 7) for task, c in w.items()} for w in (widths_in, widths_out))
    first, second = (module.routes['a2b'].attention[index].weight for index in (0, 3))
    assert first.shape == (8 // 4, 3 + 5, 1, 1)
    hidden = F.conv2d(torch.cat([inputs['a'], inputs['b']], dim=1), first)
    hidden = F.batch_norm(hidden, None, None, training=True).relu()
    mask = F.batch_norm(F.conv2d(hidden, second), None, None, training=True).sigmoid()
    torch.testing.assert_close(module(inputs, outputs)['b'], outputs['b'] + mask * outputs['a'])
