"""Batch norms folded into convolutions: the same answers, or nothing changed."""

import pytest
import torch
from torch import nn

from mmskin.config import load_config
from mmskin.models.convolutions import fold_batch_norms
from mmskin.models.weights import without_lookups
from mmskin.registry import MODELS

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def trained(network):
    """With batch norms whose statistics are anything but 0 and 1."""
    torch.manual_seed(1)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.running_var, part.weight.data, part.bias.data):
                tensor.uniform_(0.5, 1.5)
    return network.eval()


@pytest.mark.parametrize('name', ['lite0_isic2017', 'r18_synthetic', 'convnext_synthetic'])
def test_the_answers_stay(name):
    network = trained(MODELS.build(without_lookups(load_config(f'configs/fpm/{name}.py').model)))
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    expected = network(IMAGES, mode='tensor')
    assert fold_batch_norms(network, IMAGES)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in network.modules()) < max(norms, 1)
    for key, output in network(IMAGES, mode='tensor').items():
        torch.testing.assert_close(output, expected[key], rtol=1e-4, atol=1e-4)


class Backwards(nn.Module):
    """Defines the norm after the convolution, and runs it first."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images, mode='tensor'):
        return {'seg': self.conv(self.norm(images))}


def test_another_order_is_left_alone():
    network = trained(Backwards())
    conv, norm, expected = network.conv, network.norm, network(IMAGES)['seg']
    assert not fold_batch_norms(network, IMAGES)
    assert (network.conv, network.norm) == (conv, norm)
    assert torch.equal(network(IMAGES)['seg'], expected)
