"""The mixture of experts: numbers worked out by hand, and a product of gates and experts as a reference."""

from math import log

import torch

from mmskin.models.passing.stitching import MMoEPassing

ONE = dict(a=1, b=1)


def cells(**values):
    return {task: torch.tensor(row, dtype=torch.float32).view(-1, 1, 1, 1) for task, row in values.items()}


def check(actual, expected):
    torch.testing.assert_close(actual.flatten(), torch.tensor(expected, dtype=torch.float32))


def mixture(**options):
    """E_a(x) = ReLU(2 x + 1), E_b(x) = ReLU(x / 2 + 1); the gate of a favours its own by log 3 at f_a = 2."""
    module = MMoEPassing(ONE, ONE, **options)
    for expert, weight in ((module.sources['a'], 2), (module.sources['b'], 0.5)):
        expert.conv.weight.data.fill_(weight)
        expert.conv.bias.data.fill_(1)
    for stream in (module.targets['a'].stream, module.targets['b'].stream, *module.routes.values()):
        stream.gate.weight.data.zero_()
    module.targets['a'].stream.gate.weight.data.fill_(log(3) / 2)
    return module


def test_all_tasks_share_the_experts():
    """Of E_a(2) = 5 and E_b(4) = 3, a takes 3/4 and 1/4, b the halves."""
    module = mixture(identity_init=False)
    new = module({}, cells(a=[2], b=[4]))
    check(new['a'], [3 / 4 * 5 + 1 / 4 * 3])
    check(new['b'], [1 / 2 * 5 + 1 / 2 * 3])


def test_each_image_has_its_own_gate():
    """At f_a = 0 the gate is even."""
    module = mixture(identity_init=False)
    gates = module.gates({}, cells(a=[2, 0], b=[4, 4]))
    assert gates['b2a'].shape == (2, 1, 1, 1)
    check(gates['b2a'], [1 / 4, 1 / 2])
    check(module({}, cells(a=[2, 0], b=[4, 4]))['a'], [4.5, 1 / 2 * 1 + 1 / 2 * 3])


def test_scale_goes_from_nothing_to_the_mixture():
    module = mixture()
    check(module({}, cells(a=[2], b=[4]))['a'], [2])
    module.targets['a'].op.scale.data.fill_(0.4)
    check(module({}, cells(a=[2], b=[4]))['a'], [2 + 0.4 * (4.5 - 2)])


def test_relu_of_an_expert():
    module = mixture(identity_init=False)
    check(module({}, cells(a=[2], b=[-4]))['a'], [3 / 4 * 5])


def test_a_detached_source_learns_nothing_but_its_expert_does():
    module = MMoEPassing(ONE, ONE, routes=[('a', 'b')], detach=[('a', 'b')], identity_init=False)
    module.sources['a'].conv.bias.data.fill_(10)
    outputs = {task: feature.requires_grad_() for task, feature in cells(a=[2], b=[4]).items()}
    module({}, outputs)['b'].sum().backward()
    assert outputs['a'].grad is None
    assert outputs['b'].grad.any()
    assert module.sources['a'].conv.weight.grad.any()


def test_experts_rest_with_the_routes_that_need_them():
    three = dict(a=1, b=1, c=1)
    module = MMoEPassing(three, three)
    assert list(module.sources) == ['a', 'b', 'c']
    assert module.sources['c'] in module.idle_parts(['a', 'b'])
    assert module.sources['a'] not in module.idle_parts(['a', 'b'])
    assert all(expert in module.idle_parts(['a']) for expert in module.sources.values())
    assert list(MMoEPassing(three, three, routes=[('c', 'a')]).sources) == ['a', 'c'], 'nobody reads that of b'


def test_it_is_a_product_of_gates_and_experts():
    torch.manual_seed(0)
    widths = dict(a=4, b=4, c=4)
    module = MMoEPassing(widths, widths, identity_init=False)
    maps = {task: torch.randn(2, 4, 5, 7) for task in widths}
    experts = torch.stack([module.sources[task].conv(maps[task]).relu() for task in widths])
    rows = [module.routes['a2b'], module.targets['b'].stream, module.routes['c2b']]
    selector = torch.cat([row.gate.weight for row in rows]) @ maps['b'].mean(dim=(2, 3)).T  # (experts, N)
    expected = torch.einsum('enchw,en->nchw', experts, selector.softmax(dim=0))
    torch.testing.assert_close(module({}, maps)['b'], expected)
