import copy
import json
import re
from functools import lru_cache
from unittest.mock import patch

import pytest
import timm
import torch
import torchvision

from mmskin.models.backbones.chain import BlockChain
from mmskin.models.backbones.split import SplitBackbone

CHAINS = {
    'resnet18': ({'type': 'TimmChain', 'model': 'resnet18', 'size': 64}, 'layer2.0'),
    'resnet50': ({'type': 'TimmChain', 'model': 'resnet50', 'size': 64}, 'layer3.3'),
    'lite0': ({'type': 'EfficientNetLite0Chain'}, 'blocks.2.1'),
    'vgg16': ({'type': 'VGGChain', 'depth': 16}, 'conv3_2'),
    'vgg11_bn': ({'type': 'VGGChain', 'depth': 11, 'batch_norm': True}, 'conv3_1'),
}


@pytest.fixture(scope='module', params=CHAINS)  # so that the tests of one chain follow each other
def chain(request):
    return CHAINS[request.param]


def build(chain, split_after, **branches):
    return copy.deepcopy(built(json.dumps([chain, split_after, branches])))


@lru_cache(maxsize=2)
def built(arguments):
    torch.manual_seed(0)
    return SplitBackbone(*json.loads(arguments)).eval()


def randomise_statistics(network):
    """Give batch norms statistics that a mix-up of layers would show in."""
    generator = torch.Generator().manual_seed(1)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)


def images(size=97, count=2):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def run(backbone, x, tasks, **kwargs):
    return backbone(x, tasks, **kwargs)


def reference(name, output_stride=32):
    """The same network as torchvision and timm run it, as a function from images to its last map."""
    if name == 'lite0':
        network = timm.create_model('tf_efficientnet_lite0', output_stride=output_stride)
        return network, network.forward_features
    if name.startswith('resnet'):
        dilations = [False, output_stride < 16, output_stride < 32]
        network = torchvision.models.get_model(name, replace_stride_with_dilation=dilations)
        body = list(network.children())[:-2]
        return network, torch.nn.Sequential(*body)
    with patch.object(torch.nn.Linear, 'reset_parameters'), patch.object(torch.nn.init, 'normal_'):
        network = torchvision.models.get_model(name)  # but for 120 million weights that are not used
    return network, network.features


def last_part(state):
    """Tensors without their names and without the classifier."""
    return [v for k, v in state.items() if not k.startswith(('fc.', 'classifier.'))]


@pytest.mark.parametrize(
    ('name', 'output_stride'),
    [(name, 32) for name in CHAINS] + [(name, stride) for name in ('resnet50', 'lite0') for stride in (16, 8)],
)
def test_one_branch_is_the_plain_network(name, output_stride):
    chain, split_after = CHAINS[name]
    split_after = split_after if output_stride == 32 else 'stem'
    ours = build(chain, split_after, only={'output_stride': output_stride})
    network, features = reference(name, output_stride)
    randomise_statistics(network)
    network.eval()
    state = dict(zip(ours.state_dict(), last_part(network.state_dict()), strict=True))
    ours.load_state_dict(state)
    with torch.no_grad():
        expected = features(images())
    torch.testing.assert_close(run(ours, images(), ['only'])['only'][0], expected)


@pytest.mark.parametrize('output_stride', [16, 8])
def test_map_sizes(chain, output_stride):
    backbone = build(chain[0], None, only={'output_stride': output_stride})
    floor = chain[0]['type'] == 'VGGChain'
    for size in (233, 192, 97):
        side = run(backbone, images(size, 1), ['only'])['only'][0].shape[-1]
        assert side == (size // output_stride if floor else -(-size // output_stride))


@pytest.mark.parametrize('size', [96, 97])
def test_dilated_map_holds_the_plain_one(chain, size):
    """À trous: from the same weights, the values of the strided map recur in the dense one."""
    backbone = build(chain[0], chain[1], cls={}, seg={'output_stride': 16})
    randomise_statistics(backbone.shared)
    for branch in backbone.branches.values():
        randomise_statistics(branch)
    maps = run(backbone, images(size), ['cls', 'seg'])
    plain, dense = maps['cls'][0], maps['seg'][0]
    height, width = plain.shape[-2:]
    recurring = [dense[..., i::2, i::2][..., :height, :width] for i in (0, 1)]
    assert dense.shape[-1] > plain.shape[-1]
    assert any(part.shape == plain.shape and torch.allclose(part, plain, atol=1e-4) for part in recurring)


def test_branches_start_alike_and_dilation_keeps_every_tensor(chain):
    backbone = build(chain[0], chain[1], cls={}, seg={'output_stride': 16})
    cls, seg = (backbone.branch(task).state_dict() for task in ('cls', 'seg'))
    assert list(cls) == list(seg)
    assert all(torch.equal(cls[key], seg[key]) for key in cls)
    assert not {p.data_ptr() for p in backbone.branch('cls').parameters()} & {
        p.data_ptr() for p in backbone.branch('seg').parameters()
    }


def test_dilation_stays_in_its_branch(chain):
    alone = build(chain[0], chain[1], cls={})
    beside = build(chain[0], chain[1], cls={}, seg={'output_stride': 16})
    assert torch.equal(run(alone, images(), ['cls'])['cls'][0], run(beside, images(), ['cls', 'seg'])['cls'][0])


def test_channels(chain):
    backbone = build(chain[0], chain[1], cls={'out_blocks': (chain[1], backbone_end(chain))})
    maps = run(backbone, images(), ['cls'])['cls']
    assert [m.shape[1] for m in maps] == [width for width, _ in backbone.maps_of('cls')]
    names = (*backbone.shared.names, *backbone.branch('cls').names)
    assert backbone.channels_in(names[0], 'cls') == 3
    assert [backbone.channels_in(n, 'cls') for n in names[1:]] == [backbone.channels_out(n, 'cls') for n in names[:-1]]


def backbone_end(chain):
    return build(chain[0], None, any={}).branch('any').names[-1]


def test_state_dict_keys_read_like_the_network():
    keys = build(*CHAINS['resnet18'], cls={}).state_dict().keys()
    assert {'shared.stem.conv1.weight', 'shared.layer1.1.conv2.weight', 'branches.cls.layer4.0.bn1.bias'} <= keys


def test_only_listed_tasks_run():
    backbone = build(*CHAINS['resnet18'], cls={}, seg={})
    backbone.branch('seg').register_forward_hook(lambda *_: pytest.fail('seg ran'))
    for _, block in backbone.branch('seg').items():
        block.register_forward_hook(lambda *_: pytest.fail('seg ran'))
    assert list(run(backbone, images(), ['cls'])) == ['cls']


def test_passing_gets_what_entered_and_what_left_the_block():
    backbone = build(*CHAINS['resnet18'], cls={}, seg={'output_stride': 16})
    seen = {}

    def swap(inputs, outputs):
        seen.update(inputs=inputs, outputs=outputs)
        return {'cls': outputs['seg'], 'seg': outputs['cls']}

    plain = run(backbone, images(), ['cls', 'seg'])
    swapped = run(backbone, images(), ['cls', 'seg'], passing={'layer3.1': swap})
    assert seen['inputs']['cls'].shape[1] == backbone.channels_in('layer3.1', 'cls')
    torch.testing.assert_close(backbone.branch('seg')['layer3.1'](seen['inputs']['seg']), seen['outputs']['seg'])
    torch.testing.assert_close(plain, swapped)  # the branches still agree in stride and weights up to layer3


def test_out_blocks_end_the_branch():
    options = {'output_stride': 16, 'out_blocks': ('layer1.1', 'layer3.1')}
    backbone = build(*CHAINS['resnet18'], cls={}, seg=options)
    low, high = run(backbone, images(96), ['seg', 'cls'])['seg']
    assert (low.shape[1:], high.shape[1:]) == ((64, 24, 24), (256, 6, 6))
    assert backbone.branch('seg').names[-1] == 'layer3.1'
    with pytest.raises(ValueError, match="No block is named 'layer4.0'"):
        backbone.blocks_at('layer4.0', ['cls', 'seg'])


def test_measuring_leaves_statistics_and_mode():
    chain = BlockChain({'a': torch.nn.BatchNorm2d(3), 'b.0': torch.nn.AvgPool2d(2)})
    assert chain.measure() == ({'a': 3, 'b.0': 3}, {'a': 64, 'b.0': 32}, {'a': 1, 'b.0': 2})
    assert chain.training and chain['a'].num_batches_tracked == 0


@pytest.mark.parametrize(
    ('split_after', 'options', 'message'),
    [
        ('layer3_0', {}, "No block is named 'layer3_0'. Near matches: layer3.0"),
        ('Sturm', {}, "No block is named 'Sturm'. The blocks are stem, layer1.0"),
        ('stem', {'out_blocks': ['layer9.0']}, "No block is named 'layer9.0'. Near matches"),
        (
            'layer3.0',
            {'output_stride': 8},
            "what comes before it, up to 'layer3.0', already has stride 16. Split earlier",
        ),
        ('stem', {'output_stride': 12}, "Branch 'seg' asks for output_stride=12, but it has no block of that stride."),
        ('stem', {'output_stride': 64}, 'its last map has stride 32. Leave output_stride out, or ask for 32 or 16 or'),
        ('/4', {'out_blocks': ['/64']}, "No block has a map of level '/64'. The levels are /4, /8, /16, /32."),
    ],
)
def test_illegal_configs_say_what_is_wrong(split_after, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build(CHAINS['resnet18'][0], split_after, seg=options)


def test_passing_site_must_be_behind_the_split():
    backbone = build(*CHAINS['resnet18'], cls={}, seg={})
    assert backbone.blocks_at('/16', ['cls', 'seg']) == {'cls': 'layer3.1', 'seg': 'layer3.1'}
    with pytest.raises(ValueError, match="'layer2.0': it is shared. The first block of the branches is 'layer2.1'"):
        backbone.blocks_at('layer2.0', ['cls'])
    with pytest.raises(ValueError, match='Near matches: layer3.1'):
        backbone.blocks_at('layer3.2', ['cls'])


def test_weights_reach_shared_part_and_branches(tmp_path):
    file = tmp_path / 'resnet18.pth'
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), file)
    backbone = build({'type': 'TimmChain', 'model': 'resnet18', 'weights': str(file)}, 'layer2.0', cls={}, seg={})
    backbone.init_weights()
    state = backbone.state_dict()
    torch.testing.assert_close(state['shared.stem.conv1.weight'], network.conv1.weight.data)
    for task in ('cls', 'seg'):
        torch.testing.assert_close(state[f'branches.{task}.layer4.1.conv2.weight'], network.layer4[1].conv2.weight.data)


def test_a_model_for_a_checkpoint_needs_no_weights():
    chain = {'type': 'TimmChain', 'model': 'resnet18', 'weights': 'missing.pth'}
    backbone = build(chain, 'layer2.0', cls={})
    with pytest.raises(FileNotFoundError, match='backbone.chain.weights=None'):
        backbone.init_weights()
