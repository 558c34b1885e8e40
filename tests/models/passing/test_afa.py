"""AFANet's aggregation: numbers worked out by hand, and the authors' two-task layer as a reference."""

from math import log

import torch
import torch.nn.functional as F

from mmskin.models.passing.attention import AFAPassing

ONE = dict(a=1, b=1)


def cells(**values):
    return {task: torch.tensor(row, dtype=torch.float32).view(-1, 1, 1, 1) for task, row in values.items()}


def check(actual, expected):
    torch.testing.assert_close(actual.flatten(), torch.tensor(expected, dtype=torch.float32).expand(actual.numel()))


def aggregation(**options):
    """b -> a. Channel logits log 3 at GAP f_a = 10, and 0; position logits log 4 and 0."""
    module = AFAPassing(ONE, ONE, routes=[('b', 'a')], **options)
    for parameter in module.parameters():
        parameter.data.zero_()
    own = module.targets['a'].stream
    own.squeeze.weight.data[0] = 1
    own.channel.weight.data[0, 0] = log(3) / 10
    own.spatial.bias.data.fill_(log(4))
    return module


def test_by_channel_then_by_position():
    """z_aa = 3/4 * 10 + 1/4 * 20 = 12.5, z_ab = 3/4 * 20 + 1/4 * 10 = 17.5, and 4/5 * 12.5 + 1/5 * 17.5 = 13.5."""
    module = aggregation(identity_init=False)
    outputs = cells(a=[10], b=[20])
    new = module({}, outputs)
    check(new['a'], [13.5])
    assert new['b'] is outputs['b']


def test_gates_are_what_both_steps_take():
    """4/5 * 1/4 + 1/5 * 3/4 = 0.35 of the source, and so 0.65 * 10 + 0.35 * 20 = 13.5."""
    check(aggregation().gates({}, cells(a=[10], b=[20]))['b2a'], [0.35])


def test_each_image_has_its_own_weights():
    """GAP f_a = 0 makes the channel logits equal: both z are 1/2 * 0 + 1/2 * 20 = 10."""
    module = aggregation(identity_init=False)
    check(module({}, cells(a=[10, 0], b=[20, 20]))['a'], [13.5, 10])
    check(module.gates({}, cells(a=[10, 0], b=[20, 20]))['b2a'], [0.35, 0.5])


def test_scale_goes_from_nothing_to_the_aggregated_map():
    module = aggregation()
    check(module({}, cells(a=[10], b=[20]))['a'], [10])
    module.targets['a'].op.scale.data.fill_(0.4)
    check(module({}, cells(a=[10], b=[20]))['a'], [10 + 0.4 * 3.5])


def test_it_is_the_authors_layer_for_two_tasks():
    """FC, ReLU and FC over both averages; a 7x7 convolution over both means."""
    torch.manual_seed(0)
    widths = dict(a=4, b=4)
    module = AFAPassing(widths, widths, routes=[('b', 'a')], identity_init=False)
    own, other = module.targets['a'].stream, module.routes['b2a']
    a, b = torch.randn(2, 3, 4, 9, 8)

    pooled = torch.cat([F.adaptive_avg_pool2d(x, 1).flatten(1) for x in (a, b)], dim=1)
    hidden = F.linear(pooled, torch.cat([own.squeeze.weight, other.squeeze.weight], dim=1)).relu()
    by_channel = torch.stack([stream.channel(hidden) for stream in (own, other)], dim=1).softmax(dim=1)
    w_self, w_other = by_channel[..., None, None].unbind(dim=1)
    z_a, z_b = w_self * a + w_other * b, w_self * b + w_other * a
    means = torch.cat([z_a.mean(dim=1, keepdim=True), z_b.mean(dim=1, keepdim=True)], dim=1)
    weight = torch.zeros(2, 2, 7, 7)  # the own map's logit has no need of the source's mean: softmax sees differences
    weight[0, 0], weight[1] = own.spatial.weight[0, 0], other.spatial.weight[0]
    bias = torch.cat([own.spatial.bias, other.spatial.bias])
    by_position = F.conv2d(means, weight, bias, padding=3).softmax(dim=1)
    expected = by_position[:, :1] * z_a + by_position[:, 1:] * z_b
    torch.testing.assert_close(module({}, dict(a=a, b=b))['a'], expected)


def test_shares_sum_to_one():
    """So that the aggregated map lies between the maps, at each channel and position."""
    torch.manual_seed(0)
    widths = dict(a=4, b=4, c=4)
    module = AFAPassing(widths, widths, identity_init=False)
    maps = {task: torch.randn(2, 4, 5, 7) for task in widths}
    gates = module.gates({}, maps)
    b, c = gates['b2a'], gates['c2a']
    torch.testing.assert_close(module({}, maps)['a'], (1 - b - c) * maps['a'] + b * maps['b'] + c * maps['c'])


def test_even_weights_are_even_shares():
    """Of three maps a third each, though two steps mix them."""
    widths = dict(a=1, b=1, c=1)
    module = AFAPassing(widths, widths, identity_init=False)
    for parameter in module.parameters():
        parameter.data.zero_()
    check(module({}, cells(a=[3], b=[6], c=[12]))['b'], [7])
