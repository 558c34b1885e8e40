"""Sluice networks: numbers worked out by hand, and the way of the penalty into the loss."""

import itertools

import pytest
import torch

from mmskin.models.passing.stitching import SluicePassing, overlap, split
from mmskin.testing.contract import tiny_batch, tiny_network

SITES = ('b.0', 'b.1')


def cells(**values):
    """Maps of one cell, (1, C, 1, 1)."""
    return {task: torch.tensor(row, dtype=torch.float32).view(1, -1, 1, 1) for task, row in values.items()}


def check(actual, expected):
    torch.testing.assert_close(actual.flatten(), torch.as_tensor(expected, dtype=torch.float32).flatten())


def set_to(parameter, *values):
    parameter.data = torch.tensor(values, dtype=torch.float32).view_as(parameter)


def test_subspaces_and_layers_are_mixed():
    """alpha: 1 + 4 + 15 and 3 + 8 + 10; of these beta takes 1/2, and 1/4 of the block's input 4 and 8."""
    module = SluicePassing(dict(a=2, b=2), dict(a=2, b=2), routes=[('b', 'a')])
    set_to(module.targets['a'].stream.alpha, 0.1, 0.2, 0.3, 0.4)
    set_to(module.routes['b2a'].alpha, 0.5, 0, 0, 0.25)
    set_to(module.targets['a'].beta, 0.5, 0.25)
    inputs, outputs = cells(a=[4, 8], b=[0, 0]), cells(a=[10, 20], b=[30, 40])
    new = module(inputs, outputs)
    check(new['a'], [0.5 * 20 + 0.25 * 4, 0.5 * 21 + 0.25 * 8])
    assert new['b'] is outputs['b']


def test_without_subspaces_it_starts_as_the_authors_cross_stitch():
    """0.9 of its own and 0.1 / 2 of each other, as of the last layer and the one before."""
    one = dict(a=1, b=1, c=1)
    module = SluicePassing(one, one, num_subspaces=1, identity_init=False)
    new = module(cells(a=[100], b=[0], c=[0]), cells(a=[10], b=[20], c=[40]))
    check(new['a'], [0.9 * (9 + 1 + 2) + 0.1 * 100])
    check(new['b'], [0.9 * (18 + 0.5 + 2)])


def test_subspaces_start_with_their_like():
    two = dict(a=2, b=2)
    module = SluicePassing(two, two, identity_init=False)
    check(module.targets['a'].stream.alpha, 0.9 * torch.eye(2))
    check(module.routes['b2a'].alpha, 0.1 * torch.eye(2))


def test_a_narrower_last_subspace():
    """Channels 1 and 2 against 3 and nothing: exchanged, they are 3, nothing and 1."""
    three = dict(a=3, b=3)
    module = SluicePassing(three, three, routes=[('b', 'a')])
    set_to(module.targets['a'].stream.alpha, 0, 1, 1, 0)
    check(module({'a': torch.zeros(1, 3, 1, 1)}, cells(a=[1, 2, 3], b=[0, 0, 0]))['a'], [3, 0, 1])
    assert split(torch.ones(2, 3, 4, 5), 2).shape == (2, 2, 2, 4, 5)


@pytest.mark.parametrize('number', [0, 3])
def test_illegal_subspaces(number):
    with pytest.raises(ValueError, match=f'num_subspaces is {number}; a has 2 channels'):
        SluicePassing(dict(a=2, b=8), dict(a=2, b=8), routes=[('b', 'a')], num_subspaces=number)


def test_identity_is_exact_under_autocast():
    """bfloat16 has three digits: a matrix product would lose the rest."""
    two = dict(a=4, b=4)
    maps = {task: torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(0)) for task in two}
    with torch.autocast('cpu', dtype=torch.bfloat16):
        new = SluicePassing(two, two)(maps, maps)
    assert all(torch.equal(new[task], maps[task]) for task in two)


class TestPenalty:
    @pytest.mark.parametrize(
        ('first', 'second', 'expected'),
        [([1, 0], [0, 5], 0), ([1, 0], [3, 0], 1), ([2, 0], [-1, 1], 1 / 2), ([0, 0], [1, 1], 0)],
    )
    def test_squared_cosine_of_two_channels(self, first, second, expected):
        check(overlap(torch.tensor([[[first], [second]]], dtype=torch.float32), 2), expected)

    def test_mean_over_channels_images_and_pairs_of_subspaces(self):
        x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
        flat = x.flatten(2)
        pairs = [(one, other) for one, other in itertools.product(range(6), range(6)) if one // 2 < other // 2]
        cosines = [torch.cosine_similarity(flat[:, one], flat[:, other]) for one, other in pairs]
        check(overlap(x, 3), torch.stack(cosines).square().mean())

    def test_sum_over_targets_times_its_weight(self):
        """a's subspaces agree (1), b's are at 45 degrees (1/2); c, in which no route ends, does not count."""
        outputs = {
            task: torch.tensor([[[[1.0, 0]], [pair]]])
            for task, pair in dict(a=[3.0, 0], b=[1.0, 1], c=[1.0, 0]).items()
        }
        widths = dict.fromkeys(outputs, 2)
        module = SluicePassing(widths, widths, routes=[('a', 'b'), ('c', 'a')], orthogonality=0.2)
        check(module.losses({}, outputs)['loss_orthogonality'], 0.2 * 1.5)
        del outputs['c']
        check(module.losses({}, outputs)['loss_orthogonality'], 0.2 * 0.5)

    @pytest.mark.parametrize('options', [dict(orthogonality=0), dict(num_subspaces=1), dict(routes=[])])
    def test_there_may_be_none(self, options):
        two = dict(a=2, b=2)
        assert SluicePassing(two, two, **options).losses({}, cells(a=[1, 2], b=[3, 4])) == {}

    def test_it_joins_the_losses(self):
        model = tiny_network(dict(type='SluicePassing', orthogonality=2.0))
        losses = model(*tiny_batch(), mode='loss')
        names = [f'{site}/loss_orthogonality' for site in SITES]
        assert list(losses) == ['cls/loss_ce', 'seg/loss_wce', *names]
        assert all(0 < losses[name] < 4 for name in names)
        torch.testing.assert_close(model.parse_losses(losses)[0], sum(losses.values()))

    def test_it_teaches_the_blocks(self):
        """The blocks of both branches up to the last that passes, and what they share, but no head."""
        model = tiny_network(dict(type='SluicePassing'))
        losses = model(*tiny_batch(), mode='loss')
        sum(losses[f'{site}/loss_orthogonality'] for site in SITES).backward()
        reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        for part in ('backbone.shared', 'backbone.branches.cls', 'backbone.branches.seg', 'passing.b_0'):
            assert any(name.startswith(part) for name in reached), part
        assert not any(name.startswith('tasks') for name in reached)

    def test_it_is_added_to_balanced_losses_as_it_is(self):
        model = tiny_network(
            dict(type='SluicePassing'), weighting=dict(type='FixedWeights', weights=dict(cls=2, seg=3))
        )
        total, logged = model.parse_losses(model(*tiny_batch(), mode='loss'))
        penalty = sum(logged[f'{site}/loss_orthogonality'] for site in SITES)
        torch.testing.assert_close(total, 2 * logged['cls/loss_ce'] + 3 * logged['seg/loss_wce'] + penalty)
        assert not any(logged[f'{site}/loss_orthogonality'].requires_grad for site in SITES)

    @pytest.mark.parametrize('weighting', ['PCGrad', 'CAGrad', 'UPGrad', 'GradNorm'])
    def test_it_trains_beside_tasks_whose_gradients_are_weighed(self, weighting):
        """A step's gradients with it are those without it and its own."""
        found = []
        for options in (dict(orthogonality=2.0), dict(orthogonality=0)):
            model = tiny_network(dict(type='SluicePassing', **options), weighting=dict(type=weighting)).train()
            losses = model(*tiny_batch(), mode='loss')
            model.parse_losses(losses)[0].backward()
            found.append(model.get_parameter('backbone.shared.stem.0.weight').grad)
        plain = tiny_network(dict(type='SluicePassing', orthogonality=2.0)).train()
        losses = plain(*tiny_batch(), mode='loss')
        sum(losses[f'{site}/loss_orthogonality'] for site in SITES).backward()
        penalty = plain.get_parameter('backbone.shared.stem.0.weight').grad
        assert penalty.any()
        torch.testing.assert_close(found[0], found[1] + penalty, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize('options', [dict(use_passing=False), dict(active_tasks=['seg'])])
    def test_not_in_stages_without_passing(self, options):
        losses = tiny_network(dict(type='SluicePassing'), **options)(*tiny_batch(), mode='loss')
        assert not any('orthogonality' in name for name in losses)

    def test_training_on_it_parts_the_subspaces(self):
        model = tiny_network(dict(type='SluicePassing', orthogonality=1.0)).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        found = []
        for _ in range(10):
            losses = model(*tiny_batch(), mode='loss')
            penalty = sum(losses[f'{site}/loss_orthogonality'] for site in SITES)
            optimizer.zero_grad()
            penalty.backward()
            optimizer.step()
            found.append(penalty.item())
        assert found[-1] < 0.8 * found[0]

    def test_mixed_precision(self):
        x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(0))
        with torch.autocast('cpu', dtype=torch.bfloat16):
            found = overlap(x.bfloat16(), 2)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, overlap(x.bfloat16().float(), 2))
