"""Grad-CAM against its formula: after a mean over positions, a linear layer's weights times the map."""

import sys

import pytest
import torch
from torch import nn

from mmskin.explain.class_activation import class_activation, grad_cam

captum = pytest.importorskip('captum', reason="captum is an extra: pip install 'mmskin[explain]'")


class Tiny(nn.Module):
    """One convolution, and a linear layer on its mean."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)
        self.backbone = self
        self.out_blocks = {'cls': ('conv',)}

    def branch(self, task):
        return {'conv': self.conv}

    def over_image(self, task, maps, inputs):
        return maps

    def forward(self, inputs, mode):
        return {'cls': self.linear(self.conv(inputs).mean(dim=(2, 3)))}


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


def test_without_captum_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith('captum')]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r"^captum is not installed: pip install 'mmskin\[explain\]'$"):
        grad_cam()
