"""The networks of other papers, against their published parts and the libraries they come from."""

import cv2
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from mmskin.models.backbones.full_size import CDNNChain, ColorChannels, Padded, UNetChain
from mmskin.models.backbones.split import ParallelBackbone
from mmskin.models.backbones.torchvision_chains import AlexNetChain, GoogLeNetChain, fully_connected_blocks


def image(count=1, size=65):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def of_opencv(rgb):
    """HSV and lightness of an image (H, W, 3), scaled to 0 ... 1."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV) / np.float32([360, 1, 1])
    return np.dstack([rgb, hsv, cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)[..., :1] / 100])


def test_color_channels_are_opencvs():
    colors = np.float32([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0.2]])
    rgb = np.concatenate([colors, np.random.default_rng(0).random((193, 3), np.float32)])[None]  # (1, 200, 3)
    channels = ColorChannels()(torch.from_numpy(rgb.transpose(2, 0, 1))[None])[0].numpy()
    np.testing.assert_allclose(channels.transpose(1, 2, 0), of_opencv(rgb), atol=2e-3)


@pytest.mark.parametrize('chain', [CDNNChain, lambda: UNetChain(base_channels=4)])
def test_maps_have_the_images_size(chain):
    network = chain().eval()
    assert network(image(size=37)).shape[2:] == (37, 37)
    network.train()(image(2, size=32)).mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_cdnn_is_nearly_as_large_as_the_papers():
    """5,042,589 weights are reported for the published network, 3,132 more than its layer table gives."""
    weights = sum(p.numel() for p in CDNNChain().parameters()) + 9 * 16 + 1
    assert weights == 5_039_457


def test_padding_does_not_shift():
    identity = Padded(nn.Identity(), multiple=16)
    assert torch.equal(identity(image(size=37)), image(size=37))


@pytest.mark.parametrize(('chain', 'name'), [(AlexNetChain, 'alexnet'), (GoogLeNetChain, 'googlenet')])
def test_chain_is_torchvisions_network(chain, name, tmp_path):
    """Blocks in order, then the last layer, are the network that the weights are of."""
    options = dict(aux_logits=False, init_weights=False) if name == 'googlenet' else {}
    network = torchvision.models.get_model(name, **options).eval()
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    feature = chain(weights=str(tmp_path / 'weights.pth')).eval()(image())
    last = network.fc if name == 'googlenet' else network.classifier[-1]
    torch.testing.assert_close(last(feature.mean((2, 3))), network(image()))


class TestParallelBackbone:
    CHAINS = dict(
        a=dict(type='TimmChain', model='resnet18', weights='file'), b=dict(type='VGGChain', depth=11, last_pool=False)
    )

    def test_gives_each_networks_last_map(self):
        backbone = ParallelBackbone(dict(cls=self.CHAINS)).eval()
        maps = backbone(image(size=64), ['cls'])
        assert [tuple(feat.shape) for feat in maps['cls']] == [(1, 512, 2, 2), (1, 512, 4, 4)]

    def test_init_weights_loads_them(self, tmp_path):
        network = torchvision.models.resnet18()
        torch.save(network.state_dict(), tmp_path / 'weights.pth')
        chains = dict(self.CHAINS, a=dict(self.CHAINS['a'], weights=str(tmp_path / 'weights.pth')))
        backbone = ParallelBackbone(dict(cls=chains))
        backbone.init_weights()
        assert torch.equal(backbone.branch('cls')['a']['stem'].conv1.weight, network.conv1.weight)

    def test_passes_nothing(self):
        with pytest.raises(ValueError, match="Features cannot be passed at 'x'"):
            ParallelBackbone(dict(cls=self.CHAINS)).blocks_at('x', ['cls'])


def test_fully_connected_blocks_keep_vggs_order():
    """Linear, ReLU, dropout, where AlexNet has dropout, linear, ReLU."""
    hidden = [nn.Linear(12, 5), nn.ReLU(), nn.Dropout(), nn.Linear(5, 6), nn.ReLU(), nn.Dropout()]
    layers = nn.ModuleDict(dict(avgpool=nn.AdaptiveAvgPool2d(2), classifier=nn.Sequential(*hidden, nn.Linear(6, 4))))
    blocks = nn.Sequential(*fully_connected_blocks(layers).values()).eval()
    expected = layers['classifier'][:-1].eval()(layers['avgpool'](image()).flatten(1))
    torch.testing.assert_close(blocks(image()), expected[:, :, None, None])
