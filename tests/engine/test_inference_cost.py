"""What a network costs, on layers whose numbers are known."""

import json
from types import SimpleNamespace

from torch import nn, zeros

from mmskin.engine.hooks.inference_cost import InferenceCost


class Two(nn.Module):
    """A linear layer and a ReLU: the first keeps its input, the second its output."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def data_preprocessor(self, batch, training):
        return dict(inputs=batch['inputs'])

    def forward(self, inputs, mode):
        return self.linear(inputs).relu()

    def test_step(self, batch):
        return self.linear(batch['inputs'])


def test_what_two_layers_cost(tmp_path):
    """A product of 2 x 3 and 3 x 5; of the activations, the input of 2 x 3 and the output of 2 x 5, not the weights."""
    loader = SimpleNamespace(dataset=[zeros(2, 3)], collate_fn=lambda samples: dict(inputs=samples[0]))
    hook = InferenceCost(tmp_path / 'cost.json', repeats=3)
    hook.before_test_epoch(SimpleNamespace(model=Two(), test_dataloader=loader))
    cost = json.loads((tmp_path / 'cost.json').read_text())
    assert cost['activation_bytes'] == 4 * (2 * 3 + 2 * 5)
    assert (cost['parameters'], cost['flops']) == (3 * 5 + 5, 2 * 2 * 3 * 5)
    assert cost['seconds'] > 0
