"""Tokens between the branches: what they compute, and what travels with them from site to site."""

import pytest
import torch

from mmskin.models.passing.base import CarryingPassing
from mmskin.models.passing.feature_passing import BottleneckPassing
from mmskin.testing.contract import randomised, tiny_batch, tiny_network

BLOCKS, LEVELS = ('b.0', 'b.1'), ('decoder/32', 'decoder/16')


def test_the_equation_by_hand():
    """All attend alike: z = 1 + 3 * 2 = 7, f = 5 + 7 / 2 = 8.5; at the next site z = 7 + 1 + 6 = 14, f = 12."""
    operator = BottleneckPassing(
        dict(a=1, b=1), dict(a=1, b=1), [('a', 'b')], num_tokens=2, width=1, identity_init=False
    )
    for parameter in operator.parameters():
        torch.nn.init.constant_(parameter, 1.0)
    torch.nn.init.constant_(operator.routes['a2b'].value.weight, 3.0)
    torch.nn.init.constant_(operator.targets['b'].value.weight, 0.5)
    torch.nn.init.zeros_(operator.targets['b'].out.bias)
    maps = dict(a=torch.full((1, 1, 3, 2), 2.0), b=torch.full((1, 1, 2, 2), 5.0))
    new, tokens = operator(maps, maps)
    assert tokens['b'].flatten().tolist() == [7.0, 7.0]
    assert new['b'].flatten().tolist() == [8.5] * 4
    assert torch.equal(new['a'], maps['a'])
    new, again = operator(maps, maps, tokens)
    assert again['b'].flatten().tolist() == [14.0, 14.0]
    assert new['b'].flatten().tolist() == [12.0] * 4
    assert tokens['b'].flatten().tolist() == [7.0, 7.0]


@pytest.mark.parametrize('sites', [BLOCKS, LEVELS])
def test_tokens_matter_at_the_next_site_of_a_tuple_alone(sites):
    """Without a word from the first site the answer changes; sites with operators of their own hand on no tokens."""
    model = tiny_network({sites: 'BottleneckPassing'}, at_scales=True)
    randomised(model.passing, std=0.5)
    names = [site.replace('.', '_') for site in sites]
    seen = {}

    def note(name):
        return lambda module, given, gave: seen.update({name: (given[2], gave[1])})

    for name in names:
        model.passing[name].register_forward_hook(note(name))
    with torch.no_grad():
        model.eval()(tiny_batch(1)[0])
    first, then = (seen[name] for name in names)
    assert first[0] is None
    assert then[0] is first[1]
    assert then[0]['seg'].shape == (1, 4, 64)
    apart = tiny_network(dict.fromkeys(sites, 'BottleneckPassing'), at_scales=True)
    for name in names:
        apart.passing[name].register_forward_hook(note(name))
    with torch.no_grad():
        apart.eval()(tiny_batch(1)[0])
    assert [seen[name][0] for name in names] == [None, None]


class Counting(CarryingPassing):
    """An operator of a user's, whose state is no tensor: a list of what happened; its losses and gates read it."""

    quantity = 'the share of sites that are behind it'

    def forward(self, inputs, outputs, state=None):
        before = state or []
        return {task: x + len(before) for task, x in outputs.items()}, [*before, {'maps': len(outputs), 'last': None}]

    def gates(self, inputs, outputs, state=None):
        image = next(iter(outputs.values()))[:, :1, :1, :1]
        return {name: torch.full_like(image, len(state or []) / 2) for name in self.gated(outputs)}

    def losses(self, inputs, outputs, state=None):
        return {'loss_sites': torch.tensor(float(len(state or [])))}


def test_a_state_of_any_kind_reaches_gates_and_losses():
    model = tiny_network({BLOCKS: dict(type=Counting)}).eval()
    images, samples = tiny_batch(2)
    gates = model.gates(images)
    assert [float(gates[site]['cls2seg'].mean()) for site in BLOCKS] == [0.0, 0.5]
    losses = model(images, samples, mode='loss')
    assert [float(losses[f'{site}/loss_sites']) for site in BLOCKS] == [0.0, 1.0]
    again = model.gates(images)
    assert all(torch.equal(gates[site]['cls2seg'], again[site]['cls2seg']) for site in BLOCKS)  # nothing is left behind


def test_a_few_steps_learn():
    model = tiny_network('BottleneckPassing', at_scales=True).train()
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
