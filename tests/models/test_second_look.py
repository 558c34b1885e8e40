"""Networks whose diagnosis uses the outline: what they see, pooled by hand, and what flows back."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.runner.checkpoint import _load_checkpoint_to_model as load_checkpoint_to_model

from mmskin.errors import Mistake
from mmskin.explain.explanation import class_activation
from mmskin.registry import MODELS
from mmskin.testing.contract import TinyChain, tiny_batch, tiny_network

WIDTHS = {'SecondLook': 24, 'MaskGuidedPooling': 36}


def network(kind, **options):
    branches = dict(cls=dict(), seg=dict(output_stride=8))
    cls = dict(type='ClsHead', in_channels=WIDTHS[kind])
    seg = dict(type='ASPPHead', in_channels=12, rates=(1, 2))
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type=kind,
            backbone=dict(type='SplitBackbone', chain=dict(type=TinyChain), split_after='a.0', branches=branches),
            tasks=dict(
                cls=dict(type='Classification', head=cls, losses=dict(ce=dict(type='CrossEntropy'))),
                seg=dict(type='Segmentation', head=seg, losses=dict(wce=dict(type='WeightedCrossEntropy'))),
            ),
            **options,
        )
    )


class Outline(torch.nn.Module):
    """A segmentation head that says the same of every image."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, feats):
        return (self.mask.float() * 2 - 1).mul(50).expand(len(feats[-1]), 1, -1, -1)


@pytest.mark.parametrize('kind', WIDTHS)
def test_it_trains_and_predicts(kind):
    model, (images, samples) = network(kind), tiny_batch()
    losses = model(images, samples, mode='loss')
    model.parse_losses(losses)[0].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        predicted = model.eval()(images, samples, mode='predict')
    assert {sample.cls_score.shape for sample in predicted} == {(3,)}


@pytest.mark.parametrize('kind', WIDTHS)
def test_the_diagnosis_does_not_bend_the_outline(kind):
    model, (images, samples) = network(kind), tiny_batch()
    losses = model(images, samples, mode='loss')
    losses['cls/loss_ce'].backward()
    assert all(parameter.grad is None for parameter in model.tasks['seg'].parameters())


@pytest.mark.parametrize('kind', WIDTHS)
def test_the_diagnosis_alone_sees_the_whole_frame(kind):
    """As in a first stage, whose weights then fit the joint one."""
    model, (images, _) = network(kind, active_tasks=['cls']).eval(), tiny_batch()
    with torch.no_grad():
        (last,) = model.extract_feat(images)['cls']
    first, *others = last.chunk(last.shape[1] // 12, dim=1)
    assert others
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', WIDTHS)
def test_evidence_lies_over_the_image(kind):
    model, (images, _) = network(kind).eval(), tiny_batch()
    maps = class_activation(model, images, 'cls', [0, 1])
    assert len(maps) == 2
    assert maps.min() >= 0
    assert maps.max() <= 1


def test_the_second_look_is_at_the_outlined_part():
    model, (images, _) = network('SecondLook', margin=0.0, smallest=0.1).eval(), tiny_batch(size=(64, 64))
    mask = torch.zeros(8, 8)
    mask[2:6, 4:8] = 1
    model.tasks['seg'].head = Outline(mask)
    with torch.no_grad():
        (last,) = model.extract_feat(images)['cls']
        closer = F.interpolate(images[:, :, 16:48, 32:64], (64, 64), mode='bilinear', align_corners=False)
        (expected,) = model.backbone(closer, ['cls'])['cls']
    torch.testing.assert_close(last[:, 12:], expected, rtol=0.05, atol=0.2)  # but at the crop's border


def test_means_under_mask_and_ring_by_hand():
    model, like = network('MaskGuidedPooling', dilation=1 / 8), torch.zeros(1, 12, 8, 8)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 2:6] = 1
    dilated, ring = model.weights(mask, like)  # by one cell: 6 x 6 cells, and these without the inner 2 x 2
    assert dilated[0, 0, 1:7, 1:7].eq(64 / 36).all()
    assert dilated.sum().item() == pytest.approx(64)
    assert ring[0, 0, 3:5, 3:5].eq(0).all()
    assert ring[0, 0, 1, 1].item() == pytest.approx(64 / 32)


def test_an_empty_mask_is_the_whole_frame():
    model = network('MaskGuidedPooling')
    for weight in model.weights(torch.zeros(2, 1, 8, 8), torch.zeros(2, 12, 4, 4)):
        assert weight.eq(1).all()


def test_both_tasks_are_needed():
    with pytest.raises(Mistake, match='SecondLook needs the task outline; the tasks are cls, seg'):
        network('SecondLook', outline='outline')


@pytest.mark.parametrize(
    ('kind', 'options'),
    [('SecondLook', dict(margin=-1)), ('SecondLook', dict(smallest=0)), ('MaskGuidedPooling', dict(dilation=1.5))],
)
def test_settings_that_leave_no_lesion_are_refused(kind, options):
    with pytest.raises(Mistake, match=f'{kind}: .*{next(iter(options))}='):
        network(kind, **options)


def test_shuffled_messages_are_the_next_images():
    widths = dict(in_channels=dict(a=3, b=3), out_channels=dict(a=3, b=3), identity_init=False)
    torch.manual_seed(0)
    shuffled = MODELS.build(dict(type='ShuffledPassing', **widths))
    gated = MODELS.build(dict(type='GatedFeaturePassing', **widths))
    gated.load_state_dict(shuffled.state_dict())
    x = {task: torch.randn(3, 3, 4, 4) for task in 'ab'}
    rolled = {'a': x['a'].roll(-1, dims=0), 'b': x['b']}
    torch.testing.assert_close(shuffled(x, x)['b'], gated(rolled, x)['b'])


@pytest.mark.parametrize('kind', WIDTHS)
def test_it_starts_from_a_plain_network(kind):
    """And says at first what that one says."""
    plain, (images, _) = tiny_network(dict(type='NoPassing')).eval(), tiny_batch()
    model = network(kind)
    load_checkpoint_to_model(model, {'state_dict': plain.state_dict()})  # as a stage starts from another's network
    model.eval()
    with torch.no_grad():
        expected, logits = plain(images), model(images)
    for task in expected:
        torch.testing.assert_close(logits[task], expected[task])
