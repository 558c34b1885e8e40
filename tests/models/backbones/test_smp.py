"""SMP's networks behind our interface give what SMP's give, and start from the weights that ours start from."""

import pytest
import torch

from mmskin.config import load_config
from mmskin.errors import Mistake
from mmskin.registry import MODELS

smp = pytest.importorskip('segmentation_models_pytorch')
ENCODER = 'tu-tf_efficientnet_lite0'


@pytest.fixture(scope='module')
def peer():
    """The network of the config, with its encoder's weights."""
    torch.manual_seed(0)
    network = MODELS.build(load_config('configs/peers/smp_deeplabv3plus_lite0_isic2017.py').model)
    network.init_weights()
    return network.eval()


def test_logits_are_those_of_smps_own_network(peer):
    own = smp.DeepLabV3Plus(
        ENCODER, encoder_weights=None, encoder_output_stride=16, aux_params=dict(classes=3, dropout=0.2)
    ).eval()
    own.encoder.load_state_dict(peer.backbone.shared.state_dict())
    own.decoder.load_state_dict(peer.backbone.branch('seg').state_dict())
    own.classification_head.load_state_dict(peer.tasks['cls'].head.head.state_dict())
    own.segmentation_head.load_state_dict(peer.tasks['seg'].head.head.state_dict())
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        masks, labels = own(images)
        logits = peer(images)
    assert masks.shape == (2, 1, 64, 96)
    assert torch.equal(logits['cls'], labels)
    assert torch.equal(logits['seg'], masks)


def test_the_encoder_starts_from_the_weights_that_ours_starts_from(peer):
    chain = MODELS.build(dict(type='EfficientNetLite0Chain', weights='imagenet')).state_dict()
    ours = [tensor for name, tensor in chain.items() if not name.startswith('head.')]
    theirs = [*peer.backbone.shared.state_dict().values()]
    assert len(ours) == len(theirs) > 250
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(encoder='resnet1'), 'Wrong encoder name'),
        (dict(architecture='DeepLabV9'), 'DeepLabV9'),
        (dict(branches=dict(cls='encoder', seg='head')), 'head is not one of encoder, decoder'),
    ],
)
def test_a_mistake_is_named(changes, message):
    with pytest.raises(Mistake, match=message):
        MODELS.build(dict(dict(type='SMPBackbone', encoder=ENCODER), **changes))


def test_a_size_that_it_cannot_take_is_named(peer):
    with pytest.raises(Mistake, match='images of 70x64 pixels.* multiples of 16'):
        peer(torch.zeros(1, 3, 70, 64))


def test_it_passes_no_features(peer):
    cfg = dict(load_config('configs/peers/smp_deeplabv3plus_lite0_isic2017.py').model)
    with pytest.raises(Mistake, match='leave passing out'):
        MODELS.build({**cfg, 'passing': {'blocks.4.2': dict(type='GatedFeaturePassing')}})
