"""Grad-CAM against its formula: after a mean over positions, a linear layer's weights times the map."""

import pytest
import torch
from torch import nn

from mmskin.explain.explanation import class_activation
from mmskin.models.tasks.classification import Classification


class Diagnosis(Classification):
    """The mean over positions of the last map through one layer."""

    def __init__(self, linear):
        nn.Module.__init__(self)
        self.linear = linear

    def forward(self, feats):
        return self.linear(feats[-1].mean(dim=(2, 3)))


class Tiny(nn.Module):
    """One convolution, and a linear layer on its mean."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)
        self.tasks = nn.ModuleDict({'cls': Diagnosis(self.linear)})

    def extract_feat(self, inputs, values=None):
        return {'cls': (inputs, self.conv(inputs))}

    def over_image(self, task, maps, inputs):
        return maps


@pytest.mark.parametrize('classes', [[0, 1], [2, 2]])
@pytest.mark.parametrize('frozen', [False, True])
def test_it_is_the_weighted_map(frozen, classes):
    torch.manual_seed(0)
    network = Tiny().requires_grad_(not frozen)
    inputs = torch.randn(2, 3, 5, 7)
    with torch.no_grad():
        weights = network.linear.weight[classes]  # (2, 4)
        expected = torch.einsum('nc,nchw->nhw', weights, network.conv(inputs)).relu()
    expected /= expected.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(torch.from_numpy(class_activation(network, inputs, 'cls', classes)), expected)
