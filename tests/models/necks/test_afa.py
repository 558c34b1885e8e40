"""AFANet's aggregation: numbers worked out by hand, and the authors' two-task layer as a reference."""

from math import log

import torch
import torch.nn.functional as F

from mmskin.models.necks.afa import AFAPassing

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
    """3/4 * 10 + 1/4 * 20 = 12.5, and 4/5 * 12.5 + 1/5 * 20 = 14."""
    module = aggregation(identity_init=False)
    outputs = cells(a=[10], b=[20])
    new = module({}, outputs)
    check(new['a'], [14])
    assert new['b'] is outputs['b']


def test_gates_are_what_both_steps_take():
    """4/5 * 1/4 + 1/5 = 2/5 of the source, and so 3/5 * 10 + 2/5 * 20 = 14."""
    check(aggregation().gates({}, cells(a=[10], b=[20]))['b2a'], [2 / 5])


def test_each_image_has_its_own_weights():
    """GAP f_a = 0 makes the channel logits equal: 1/2 * 0 + 1/2 * 20 = 10, and 4/5 * 10 + 1/5 * 20 = 12."""
    module = aggregation(identity_init=False)
    check(module({}, cells(a=[10, 0], b=[20, 20]))['a'], [14, 12])
    check(module.gates({}, cells(a=[10, 0], b=[20, 20]))['b2a'], [2 / 5, 4 / 5 * 1 / 2 + 1 / 5])


def test_scale_goes_from_nothing_to_the_aggregated_map():
    module = aggregation()
    check(module({}, cells(a=[10], b=[20]))['a'], [10])
    module.targets['a'].op.scale.data.fill_(0.5)
    check(module({}, cells(a=[10], b=[20]))['a'], [12])


def test_it_is_the_authors_layer_for_two_tasks():
    """FC, ReLU and FC over both averages; a 7x7 convolution over both means; z_b is f_b, as no route ends in b."""
    torch.manual_seed(0)
    widths = dict(a=4, b=4)
    module = AFAPassing(widths, widths, routes=[('b', 'a')], identity_init=False)
    own, other = module.targets['a'].stream, module.routes['b2a']
    a, b = torch.randn(2, 3, 4, 9, 8)

    pooled = torch.cat([F.adaptive_avg_pool2d(x, 1).flatten(1) for x in (a, b)], dim=1)
    hidden = F.linear(pooled, torch.cat([own.squeeze.weight, other.squeeze.weight], dim=1)).relu()
    by_channel = torch.stack([stream.channel(hidden) for stream in (own, other)], dim=1).softmax(dim=1)
    z = by_channel[:, 0, :, None, None] * a + by_channel[:, 1, :, None, None] * b
    means = torch.cat([z.mean(dim=1, keepdim=True), b.mean(dim=1, keepdim=True)], dim=1)
    weight = torch.zeros(2, 2, 7, 7)  # the own map's logit has no need of the source's mean: softmax sees differences
    weight[0, 0], weight[1] = own.spatial.weight[0, 0], other.spatial.weight[0]
    bias = torch.cat([own.spatial.bias, other.spatial.bias])
    by_position = F.conv2d(means, weight, bias, padding=3).softmax(dim=1)
    expected = by_position[:, :1] * z + by_position[:, 1:] * b
    torch.testing.assert_close(module({}, dict(a=a, b=b))['a'], expected)


def test_aggregated_maps_stay_between_the_maps():
    """They are averages, though of other weights at each channel and position."""
    torch.manual_seed(0)
    widths = dict(a=4, b=4, c=4)
    module = AFAPassing(widths, widths, identity_init=False)
    maps = {task: torch.randn(2, 4, 5, 7) for task in widths}
    stacked = torch.stack(list(maps.values()))
    for feature in module({}, maps).values():
        assert (feature >= stacked.amin(dim=0) - 1e-6).all()
        assert (feature <= stacked.amax(dim=0) + 1e-6).all()
