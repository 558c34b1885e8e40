"""Crops to the lesion: boxes by hand, and the model that uses them."""

import pytest
import torch

from mmskin.models.second_look import CropToLesion, crop, lesion_boxes

CONFIG = dict(
    backbone=dict(
        type='SplitBackbone',
        chain=dict(type='TimmChain', model='resnet18', weights=None),
        split_after=None,
        branches=dict(cls={}, seg=dict(output_stride=16)),
    ),
    tasks=dict(
        cls=dict(
            type='Classification', head=dict(type='ClsHead', in_channels=512), losses=dict(ce=dict(type='CrossEntropy'))
        ),
        seg=dict(
            type='Segmentation', head=dict(type='ASPPHead', in_channels=512), losses=dict(d=dict(type='DiceLoss'))
        ),
    ),
)


def mask_with(top, bottom, left, right, size=10):
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[0, top:bottom, left:right] = True
    return mask


def test_box_by_hand():
    box = lesion_boxes(mask_with(2, 4, 5, 9))
    torch.testing.assert_close(box, torch.tensor([[0.5, 0.2, 0.9, 0.4]]))


def test_margin_is_a_share_of_the_box_and_ends_at_the_frame():
    box = lesion_boxes(mask_with(2, 4, 5, 9), margin=0.5)
    torch.testing.assert_close(box, torch.tensor([[0.3, 0.1, 1.0, 0.5]]))


def test_smallest_side():
    box = lesion_boxes(mask_with(5, 6, 5, 6), smallest=0.3)
    torch.testing.assert_close(box, torch.tensor([[0.4, 0.4, 0.7, 0.7]]))


def test_without_lesion_the_whole_image_is_kept():
    images = torch.rand(1, 3, 8, 8)
    boxes = lesion_boxes(torch.zeros(1, 8, 8, dtype=torch.bool), margin=0.1, smallest=0.2)
    torch.testing.assert_close(boxes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))
    torch.testing.assert_close(crop(images, boxes), images)


def test_a_crop_shows_its_box():
    images = torch.zeros(2, 1, 8, 8)
    images[:, :, :4, 4:] = 1
    shown = crop(images, torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0]]))
    assert shown[0, 0, 1:-1, 1:-1].eq(1).all()
    assert shown[1, 0, 1:-1, 1:-1].eq(0).all()


@pytest.mark.parametrize('active', ['seg', 'cls'])
def test_a_stage_trains_its_own_network_alone(active, make_batch):
    model = CropToLesion(**CONFIG, active_tasks=[active])
    batch = make_batch(size=(64, 64))
    losses = model(torch.stack(batch['inputs']).float(), batch['data_samples'], mode='loss')
    sum(losses.values()).backward()
    trained = {
        name.split('.')[2 if name.startswith('backbone') else 1]
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    assert trained == {active}


def test_the_classifier_sees_the_crop(make_batch):
    model = CropToLesion(**CONFIG).eval()
    images = torch.stack(make_batch(size=(64, 64))['inputs']).float()
    crops = crop(images, model.boxes(model.backbone(images, ['seg'])['seg']))
    torch.testing.assert_close(model(images)['cls'], model.tasks['cls'](model.backbone(crops, ['cls'])['cls']))


def test_evidence_lies_in_the_crop(monkeypatch):
    """The crop's upper left corner in the frame's, and nothing around the crop."""
    model = CropToLesion(**CONFIG).eval()
    monkeypatch.setattr(model, 'boxes', lambda feats: torch.tensor([[0.5, 0.25, 1.0, 0.75]]))
    maps = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    found = model.over_image('cls', maps, torch.rand(1, 3, 64, 64))[0, 0]
    assert found.shape == (64, 64)
    assert found[[16, 16, 47, 47], [32, 63, 32, 63]].tolist() == [1, 2, 3, 4]  # of the maps' corners
    found[16:48, 32:] = 0
    assert not found.any()
    assert model.over_image('seg', maps, torch.rand(1, 3, 64, 64)) is maps


@pytest.mark.parametrize(
    'change',
    [dict(passing={'layer3.1': dict(type='GatedFeaturePassing')}), dict(tasks=dict(cls=CONFIG['tasks']['cls']))],
)
def test_what_it_would_pass_over_is_refused(change):
    config = {**CONFIG, **change}
    branches = {name: CONFIG['backbone']['branches'][name] for name in config['tasks']}
    with pytest.raises(ValueError, match='CropToLesion has the tasks cls and seg, and passes nothing'):
        CropToLesion(**{**config, 'backbone': dict(CONFIG['backbone'], branches=branches)})


def test_shared_blocks_are_refused():
    backbone = dict(CONFIG['backbone'], split_after='stem')
    with pytest.raises(ValueError, match='set split_after=None'):
        CropToLesion(**{**CONFIG, 'backbone': backbone})
