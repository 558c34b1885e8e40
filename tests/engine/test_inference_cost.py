"""What a network costs, on layers whose numbers are known."""

from torch import nn, zeros

from mmskin.engine.hooks.inference_cost import activation_bytes


class Two(nn.Module):
    """A linear layer and a ReLU: the first keeps its input, the second its output."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def data_preprocessor(self, batch, training):
        return dict(inputs=batch['inputs'])

    def forward(self, inputs, mode):
        return self.linear(inputs).relu()


def test_activation_bytes_are_what_backward_needs():
    """Float32: the input of 2 x 3 and the output of 2 x 5, but not the weights."""
    assert activation_bytes(Two(), dict(inputs=zeros(2, 3))) == 4 * (2 * 3 + 2 * 5)
