"""MTI-Net's feature propagation: numbers worked out by hand, and the paper's layers over the concatenation."""

from math import log

import torch
import torch.nn.functional as F

from mmskin.models.passing.distillation import MTIPassing

ONE = dict(a=1, b=1)


def cells(**values):
    return {task: torch.full((1, 1, 1, 1), float(value)) for task, value in values.items()}


def check(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float32).expand_as(actual))


def propagation(**options):
    """b -> a. Own mask log 3 at a hidden value of 30, the source's 0; reduction by 1 and by 2; half excited."""
    module = MTIPassing(ONE, ONE, routes=[('b', 'a')], **options).eval()
    target, source = module.targets['a'], module.routes['b2a']
    target.hidden_norm.eps = target.norm.eps = 0
    for stream, mask, reduction in ((target.stream, log(3) / 30, 1.0), (source, 0.0, 2.0)):
        stream.squeeze.weight.data.fill_(1)
        stream.mask.weight.data.fill_(mask)
        stream.mask.bias.data.zero_()
        stream.reduce.weight.data.fill_(reduction)
    for layer in (target.excite[1], target.excite[3]):
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    return module


def test_masked_reduced_excited_added():
    """Hidden 10 + 20; masks 3/4 and 1/4; 3/4 * 10 + 2 * 1/4 * 20 = 17.5; half of it joins 10."""
    module = propagation(identity_init=False)
    outputs = cells(a=10, b=20)
    new = module({}, outputs)
    check(new['a'], 10 + 17.5 / 2)
    assert new['b'] is outputs['b']
    check(module.gates(outputs, outputs)['b2a'], 1 / 4)


def test_relu_in_between():
    """A reduction to -17.5 adds nothing."""
    module = propagation(identity_init=False)
    for stream in (module.targets['a'].stream, module.routes['b2a']):
        stream.reduce.weight.data.neg_()
    check(module({}, cells(a=10, b=20))['a'], 10)


def test_scale_starts_at_nought():
    module = propagation()
    check(module({}, cells(a=10, b=20))['a'], 10)
    module.targets['a'].op.scale.data.fill_(0.4)
    check(module({}, cells(a=10, b=20))['a'], 10 + 0.4 * 17.5 / 2)


def test_it_is_the_papers_module_over_the_concatenation():
    """With a mask for each task at each channel and position, which sum to one over the tasks that run."""
    torch.manual_seed(0)
    widths = dict(a=8, b=8, c=8)
    module = MTIPassing(widths, widths, kernel_size=3, identity_init=False)
    maps = {task: torch.randn(2, 8, 5, 7) for task in widths}
    target, order = module.targets['b'], ('b', 'a', 'c')
    streams = [target.stream, module.routes['a2b'], module.routes['c2b']]

    def joined(name):
        return torch.cat([getattr(stream, name).weight for stream in streams], dim=1)

    stacked = torch.stack([maps[task] for task in order])
    concatenated = torch.cat(list(stacked), dim=1)
    hidden = F.batch_norm(F.conv2d(concatenated, joined('squeeze'), padding=1), None, None, training=True).relu()
    masks = torch.stack([stream.mask(hidden) for stream in streams]).softmax(dim=0)
    reduced = F.conv2d(torch.cat(list(masks * stacked), dim=1), joined('reduce'), padding=1)
    reduced = F.batch_norm(reduced, None, None, training=True).relu()
    torch.testing.assert_close(module({}, maps)['b'], maps['b'] + target.excite(reduced) * reduced)

    gates = module.gates({}, maps)
    assert list(gates) == ['a2b', 'a2c', 'b2a', 'b2c', 'c2a', 'c2b']
    torch.testing.assert_close(gates['a2b'], masks[1])
    torch.testing.assert_close(gates['a2b'] + gates['c2b'], 1 - masks[0])
