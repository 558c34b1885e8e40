"""The gradients of depth-wise convolutions are torch's."""

import copy

import pytest
import torch
from torch import nn

from mmskin.models.convolutions import DepthwiseConv2d, speed_up_depthwise

LAYERS = {
    'dilated': dict(kernel_size=5, padding=4, dilation=2),
    'tiny maps': dict(kernel_size=5, padding=2),
    'uneven': dict(kernel_size=(3, 5), padding=(1, 4), dilation=(1, 2)),
    'without padding': dict(kernel_size=3, dilation=2),
    'with a bias': dict(kernel_size=3, padding=6, dilation=6, bias=True),
}


@pytest.mark.parametrize('name', LAYERS)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_gradients_are_those_of_torch(name, layout):
    torch.manual_seed(0)
    size = (4, 4) if name == 'tiny maps' else (7, 9)
    plain = nn.Conv2d(6, 6, groups=6, **{'bias': False, **LAYERS[name]}).double()
    ours = nn.Sequential(copy.deepcopy(plain)).to(memory_format=layout)
    speed_up_depthwise(ours)
    assert type(ours[0]) is DepthwiseConv2d
    images = torch.randn(3, 6, *size, dtype=torch.double)
    gradients = []
    for layer in (plain, ours):
        x = images.to(memory_format=layout).requires_grad_()
        output = layer(x)
        used = 'DepthwiseGradient' in type(output.grad_fn).__name__ + str(output.grad_fn.next_functions)
        assert used == (layer is ours)
        (output**3).sum().backward()
        gradients.append([output, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_gradients_of_gradients():
    layer = nn.Sequential(nn.Conv2d(2, 2, 3, padding=2, dilation=2, groups=2, bias=False).double())
    speed_up_depthwise(layer)
    weight = layer[0].weight.detach().clone().requires_grad_()
    images = torch.randn(1, 2, 4, 4, dtype=torch.double, requires_grad=True)
    run = lambda x, w: torch.func.functional_call(layer, {'0.weight': w}, (x,))  # noqa: E731
    assert torch.autograd.gradcheck(run, (images, weight))
    assert torch.autograd.gradgradcheck(run, (images, weight))


def test_mixed_precision():
    layer = nn.Sequential(nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8))
    speed_up_depthwise(layer)
    with torch.autocast('cpu', torch.bfloat16):
        output = layer(torch.randn(2, 8, 6, 6))
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert layer[0].weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    'layer',
    [
        nn.Conv2d(4, 4, 3, groups=4, stride=2),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, groups=4, padding=1, padding_mode='reflect'),
        nn.Conv2d(4, 4, 3, groups=4, padding='same'),
        nn.Conv2d(4, 4, 1, groups=4, padding=1),
    ],
)
def test_others_stay(layer):
    speed_up_depthwise(nn.Sequential(layer))
    assert type(layer) is nn.Conv2d
