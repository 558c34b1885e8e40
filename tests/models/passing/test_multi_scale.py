"""Operators at several sites at once: what they compute, and what travels from site to site."""

import pytest
import torch
from torch import nn

from mmskin.errors import Mistake
from mmskin.models.passing.distillation import MultiScalePassing
from mmskin.testing.contract import TinyChain, randomised, tiny_batch, tiny_network

SCALES = ('decoder/32', 'decoder/16')


def test_the_equation_by_hand():
    """u = [2 ; 4], gate s(0 * 2 + 0 * 4) = 1/2, message 3 * 2 + 1 * 4 = 10: 1 + 5 = 6."""
    operator = MultiScalePassing(
        dict(a=1, b=1), dict(a=1, b=1), routes=[('a', 'b')], kernel_size=1, identity_init=False
    )
    route = operator.routes['a2b']
    nn.init.zeros_(route.gate.weight)
    route.message.weight.data = torch.tensor([3.0, 1.0]).reshape(1, 2, 1, 1)
    leaving = dict(a=torch.full((1, 1, 2, 2), 2.0), b=torch.ones(1, 1, 2, 2))
    entering = dict(a=torch.full((1, 1, 1, 1), 4.0), b=torch.zeros(1, 1, 1, 1))  # coarser
    new = operator(entering, leaving)
    assert new['b'].tolist() == [[[[6.0] * 2] * 2]]
    assert torch.equal(new['a'], leaving['a'])
    assert operator.gates(entering, leaving)['a2b'].tolist() == [[[[0.5] * 2] * 2]]


def network(passing, **options):
    model = tiny_network(passing, at_scales=True, **options)
    randomised(model.passing, std=0.5)
    return model.eval()


def entered(model, key):
    """What enters the operator of module ``key``, and what it gives, for one image."""
    seen = {}
    module = model.passing[key]
    module.register_forward_hook(lambda _, given, new: seen.update(entering=given[0], leaving=given[1], new=new))
    with torch.no_grad():
        model(tiny_batch(1)[0])
    return seen


@pytest.mark.parametrize(('sites', 'first', 'second'), [(SCALES, *SCALES), (('b.0', 'b.1'), 'b_0', 'b_1')])
def test_what_leaves_one_site_enters_the_next(sites, first, second):
    for listed in (sites, sites[::-1]):
        model = network({listed: 'MultiScalePassing'})
        before, after = entered(model, first), entered(model, second)
        assert not torch.equal(before['new']['seg'], before['leaving']['seg'])
        assert all(torch.equal(after['entering'][task], before['new'][task]) for task in ('cls', 'seg'))


def test_sites_apart_hand_on_nothing():
    apart = network(dict.fromkeys(SCALES, 'MultiScalePassing'))
    after = entered(apart, 'decoder/16')
    assert all(torch.equal(after['entering'][task], after['leaving'][task]) for task in ('cls', 'seg'))
    shapes = [tuple(p.shape) for p in apart.passing['decoder/16'].parameters()]
    together = network({SCALES: 'MultiScalePassing'}).passing['decoder/16']
    assert shapes == [(10, 20, 3, 3), (10, 20, 3, 3), (10, 1, 1)]
    assert [tuple(p.shape) for p in together.parameters()] == [(10, 22, 3, 3), (10, 22, 3, 3), (10, 1, 1)]


def test_calls_share_nothing():
    """Each starts again, and an image alone gives what it gives after others."""
    model = network({SCALES: 'MultiScalePassing', ('b.0', 'b.1'): 'GatedFeaturePassing'})
    images = tiny_batch(2)[0]
    with torch.no_grad():
        alone = model(images[:1])
        model(images[1:, :, :40, :40])
        again = model(images[:1])
    assert all(torch.equal(alone[task], again[task]) for task in alone)


def test_a_head_receives_where_it_reads():
    """The diagnosis reads the coarsest map: at the finer one it gives, and gets nothing."""
    model = network({SCALES: 'MultiScalePassing'})
    assert [*model.routes()] == ['decoder/32/cls2seg', 'decoder/32/seg2cls', 'decoder/16/cls2seg']
    one_way = network({SCALES: dict(type='PADNetPassing', routes=[('seg', 'cls')], detach=[('seg', 'cls')])})
    assert [*one_way.routes()] == ['decoder/32/seg2cls']
    assert one_way.passing['decoder/32'].detached == {'seg2cls'}


def test_a_few_steps_learn():
    model = tiny_network('MultiScalePassing', at_scales=True).train()
    batch, optimizer = tiny_batch(2), torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model.parse_losses(model(*batch, mode='loss'))[0]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[1:]) < losses[0]
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ('passing', 'message'),
    [
        (
            {('decoder/8', 'decoder/32'): 'MultiScalePassing'},
            "'decoder/8': of the heads, none gets the map '/8'; name it",
        ),
        ({('decoder/64',): 'MultiScalePassing'}, "No block has a map of level '/64'. The levels are /4, /8, /16, /32"),
        ({('/16', 'b.1'): 'MultiScalePassing'}, 'passing names one block as'),
        ({SCALES: 'MultiScalePassing', 'decoder/16': 'NoPassing'}, "one block as 'decoder/16' and as 'decoder/16'"),
        ({SCALES: dict(type='MultiScalePassing', routes=[('cls', 'sge')])}, 'routes name sge; the tasks are cls, seg'),
        ({SCALES: dict(type='MultiScalePassing', detach=[('cls', 'cls')])}, 'a route joins two of the tasks'),
    ],
)
def test_what_is_no_site_is_named(passing, message):
    with pytest.raises(Mistake, match=message):
        network(passing)


def test_one_head_alone_passes_nothing():
    backbone = dict(
        type='SplitBackbone',
        chain=dict(type=TinyChain),
        split_after='a.0',
        branches=dict(cls=dict(), seg=dict(out_blocks=['b.1', 'c.0'])),
    )
    with pytest.raises(Mistake, match=r"'decoder/16': of the heads, seg gets the map '/16'; name it in the out_blocks"):
        network({SCALES: 'MultiScalePassing'}, backbone=backbone)
