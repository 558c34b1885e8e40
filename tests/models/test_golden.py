"""The paper's formulas on numbers small enough to be worked out by hand."""

import copy
from math import log

import pytest
import torch

from mmskin.models.heads import ASPPHead
from mmskin.models.losses import CrossEntropy, DiceLoss, WeightedCrossEntropy
from mmskin.models.passing.feature_passing import GatedFeaturePassing

# One lesion pixel of four, so beta = 3/4. P(y=1) = 4/5 there, and 1/5, 1/2, 1/4 off the lesion.
MASK = [[1, 0], [0, 0]]
LOGITS = [[log(4), log(1 / 4)], [0, log(1 / 3)]]
EQ_3 = 3 / 4 * log(5 / 4) + 1 / 4 * (log(5 / 4) + log(2) + log(4 / 3))


def maps(*images):
    """Maps of one channel (N, 1, H, W)."""
    return torch.tensor(images, dtype=torch.float32)[:, None]


def check(actual, expected):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(('reduction', 'expected'), [('sum', EQ_3), ('mean', EQ_3 / 4)])
def test_eq_3(reduction, expected):
    check(WeightedCrossEntropy(reduction)(maps(LOGITS), maps(MASK)), expected)


def test_eq_3_beta_is_each_images_own():
    """beta = 3/4 and 1/4 give 1.5 log 2 each; one beta of 1/2 for both would give 2 log 2."""
    masks = maps(MASK, [[0, 1], [1, 1]])
    check(WeightedCrossEntropy('sum')(torch.zeros(2, 1, 2, 2), masks), 1.5 * log(2))


def test_eq_3_mean_does_not_depend_on_the_masks_size():
    large = [maps(values).repeat_interleave(8, 2).repeat_interleave(8, 3) for values in (LOGITS, MASK)]
    check(WeightedCrossEntropy('mean')(*large), EQ_3 / 4)
    check(WeightedCrossEntropy('sum')(*large), EQ_3 * 64)


def test_eq_3_weighs_both_classes_alike_in_the_gradient():
    """At P = 1/2 the pull towards lesion is beta |Y+| / 2 = 3/8, as is that towards background."""
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    WeightedCrossEntropy('sum')(logits, maps(MASK)).backward()
    check(logits.grad, maps([[-3 / 8, 1 / 8], [1 / 8, 1 / 8]]))


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
@pytest.mark.parametrize('value', [0, 1])
def test_eq_3_of_one_class_alone_is_zero(reduction, value):
    """beta is 1 without lesion and 0 without background: nothing is left, and nothing is divided by zero."""
    logits = torch.full((2, 1, 3, 3), 50.0, requires_grad=True)
    loss = WeightedCrossEntropy(reduction)(logits, torch.full((2, 1, 3, 3), value, dtype=torch.uint8))
    loss.backward()
    check(loss, 0)
    check(logits.grad, torch.zeros(2, 1, 3, 3))


def test_eq_3_refuses_another_reduction():
    with pytest.raises(ValueError, match="reduction is 'mean' or 'sum', not 'none'"):
        WeightedCrossEntropy('none')


def set_conv(conv, weight, bias):
    conv.weight.data = torch.tensor(weight, dtype=torch.float32).reshape(conv.weight.shape)
    conv.bias.data = torch.tensor(bias, dtype=torch.float32)


def passing(op):
    """Routes both ways; cls -> seg passes 1.5 of x_cls = 2, seg -> cls passes 0.5 of x_seg = 3."""
    module = GatedFeaturePassing(dict(cls=1, seg=1), dict(cls=1, seg=1), op=dict(type=op, identity_init=False))
    to_seg, to_cls = module.routes['cls2seg'], module.routes['seg2cls']
    set_conv(to_seg.message.conv, [0.5], [1])  # eq. 7: ReLU(0.5 * 2 + 1) = 2
    set_conv(to_seg.gate.conv, [log(3) / 2], [0])  # eq. 9: sigmoid(log 3) = 3/4
    set_conv(to_cls.message.conv, [1], [-1])  # eq. 6: ReLU(3 - 1) = 2
    set_conv(to_cls.gate.conv, [0], [-log(3)])  # eq. 8: sigmoid(-log 3) = 1/4
    return module


def number(value):
    return torch.full((1, 1, 1, 1), float(value))


X = dict(cls=number(2), seg=number(3))
F_OLD = dict(cls=number(10), seg=number(20))


@pytest.mark.parametrize(
    ('op', 'cls', 'seg'),
    [
        ('SumOp', 10 + 0.5, 20 + 1.5),
        ('ProductOp', 10 * 0.5, 20 * 1.5),
        ('ConcatOp', 2 * 10 + 4 * 0.5 + 1, 2 * 20 + 4 * 1.5 + 1),
    ],
)
def test_eq_4_to_9(op, cls, seg):
    module = passing(op)
    if op == 'ConcatOp':
        for route in module.routes.values():
            set_conv(route.op.conv, [2, 4], [1])
    new = module(X, F_OLD)
    check(new['cls'], number(cls))
    check(new['seg'], number(seg))


@pytest.mark.parametrize(('op', 'cls', 'seg'), [('SumOp', 10 + 0.2, 20 + 0.6), ('ProductOp', 10 * 0.8, 20 * 1.2)])
def test_scale_of_the_identity_init_goes_from_nothing_to_eq_4(op, cls, seg):
    """At a scale of 0.4: f + 0.4 G m, and f (1 + 0.4 (G m - 1))."""
    module, scaled = passing(op), GatedFeaturePassing(dict(cls=1, seg=1), dict(cls=1, seg=1), op=dict(type=op))
    scaled.load_state_dict(module.state_dict(), strict=False)
    check(scaled(X, F_OLD)['cls'], F_OLD['cls'])
    for route in scaled.routes.values():
        route.op.scale.data.fill_(0.4)
    check(scaled(X, F_OLD)['cls'], number(cls))
    check(scaled(X, F_OLD)['seg'], number(seg))
    for route in scaled.routes.values():
        route.op.scale.data.fill_(1)
    check(scaled(X, F_OLD)['seg'], module(X, F_OLD)['seg'])


def test_a_negative_message_is_cut_off():
    module = passing('SumOp')
    check(module(dict(cls=number(-4), seg=number(0.5)), F_OLD)['seg'], F_OLD['seg'])  # ReLU(0.5 * -4 + 1) = 0
    check(module(dict(cls=number(2), seg=number(0.5)), F_OLD)['cls'], F_OLD['cls'])  # ReLU(0.5 - 1) = 0


def test_gates_rate_each_channel_and_position():
    """x = (1, -1) along the width; channel 0 sees x, channel 1 sees -x, at rates of 3/4 and 1/4."""
    module = GatedFeaturePassing(
        dict(a=1, b=1), dict(a=2, b=2), routes=[('a', 'b')], op=dict(type='SumOp', identity_init=False)
    )
    set_conv(module.routes['a2b'].message.conv, [1, -1], [0, 0])
    set_conv(module.routes['a2b'].gate.conv, [log(3), 0], [0, -log(3)])
    inputs = dict(a=maps([[1, -1]]), b=torch.zeros(1, 1, 1, 2))
    new = module(inputs, dict(a=torch.zeros(1, 2, 1, 2), b=torch.zeros(1, 2, 1, 2)))
    check(module.gates(inputs, inputs)['a2b'], [[[[3 / 4, 1 / 4]], [[1 / 4, 1 / 4]]]])
    check(new['b'], [[[[3 / 4, 0]], [[0, 1 / 4]]]])
    check(new['a'], torch.zeros(1, 2, 1, 2))


def test_a_message_is_spread_bilinearly_over_a_larger_map():
    """Two cells of 0 and 2 become four: 0, 1/2, 3/2, 2 (pixel centres, not corners, coincide)."""
    module = GatedFeaturePassing(
        dict(a=1, b=1), dict(a=1, b=1), routes=[('a', 'b')], op=dict(type='SumOp', identity_init=False)
    )
    set_conv(module.routes['a2b'].message.conv, [1], [0])
    set_conv(module.routes['a2b'].gate.conv, [0], [100])
    inputs = dict(a=maps([[0, 2]]), b=torch.zeros(1, 1, 1, 4))
    new = module(inputs, dict(inputs))
    check(new['b'], maps([[0, 1 / 2, 3 / 2, 2]]))


def test_aspp_sums_its_rates():
    """A single lit cell answers at distance 0 once per rate, and at the distance of each rate once."""
    head = ASPPHead(1)
    for branch in head.branches:
        set_conv(branch, [1] * 9, [0.25])
    cell = torch.zeros(1, 1, 49, 49)
    cell[..., 24, 24] = 1
    row = head((cell,))[0, 0, 24] - 1  # four biases of 0.25
    expected = torch.zeros(49)
    expected[24] = 4
    expected[[24 - rate for rate in (6, 12, 18, 24)] + [24 + rate for rate in (6, 12, 18, 24)]] = 1
    check(row.detach(), expected)


def test_dice():
    """P = 1/2 everywhere and one lesion pixel of four: overlap 1/2, total 3, so 1 - (1 + s) / (3 + s)."""
    check(DiceLoss(smooth=0)(torch.zeros(1, 1, 2, 2), maps(MASK)), 2 / 3)
    check(DiceLoss(smooth=1)(torch.zeros(1, 1, 2, 2), maps(MASK)), 1 / 2)


def test_dice_is_each_images_own():
    """An image all lesion found (0) and one none found (1)."""
    logits = torch.cat([torch.full((1, 1, 4, 4), 100.0), torch.full((1, 1, 4, 4), -100.0)])
    check(DiceLoss(smooth=0)(logits, torch.ones(2, 1, 4, 4)), 1 / 2)


def test_cross_entropy():
    """P = (1/2, 1/4, 1/4): -log of the label's, weighted by class, over the sum of the weights."""
    logits, labels = torch.tensor([[log(2), 0.0, 0.0]] * 2), torch.tensor([0, 2])
    check(CrossEntropy()(logits, labels), (log(2) + log(4)) / 2)
    check(CrossEntropy(class_weight=(3, 1, 1))(logits, labels), (3 * log(2) + log(4)) / 4)
    smoothed = 0.7 * log(2) + 0.3 / 3 * (log(2) + log(4) + log(4))
    check(CrossEntropy(label_smoothing=0.3)(logits[:1], labels[:1]), smoothed)


def test_passing_can_be_copied():
    """As an average of weights does with the whole network."""
    module = GatedFeaturePassing(dict(cls=1, seg=1), dict(cls=1, seg=1), detach=[('cls', 'seg')])
    other = copy.deepcopy(module)
    assert other.detached == module.detached == {'cls2seg'}
    assert other.ends == module.ends
