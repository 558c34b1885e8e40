"""The regression's scale, its numbers by hand, and its part in a network of three tasks."""

import re

import pytest
import torch

from mmskin.registry import MODELS
from mmskin.structures import TaskSample

SMOOTH_L1 = dict(smooth_l1=dict(type='torch.nn.SmoothL1Loss'))


def build(num_values=2, **options):
    """A task whose head gives the pooled feature as it is."""
    head = dict(type='ClsHead', in_channels=num_values, num_classes=num_values)
    task = MODELS.build(dict(type='Regression', head=head, losses=SMOOTH_L1, **options))
    task.head.fc.weight.data = torch.eye(num_values)
    task.head.fc.bias.data.zero_()
    return task.eval()


def feats(*rows):
    return (torch.tensor(rows)[..., None, None],)  # (N, C, 1, 1)


def samples(*values):
    made = [TaskSample(metainfo=dict(img_shape=(1, 1))) for _ in values]
    for sample, value in zip(made, values, strict=True):
        if value is not None:
            sample.gt_values = torch.tensor(value)
    return made


def test_the_loss_by_hand():
    """Values 5 and 0.3 are 2.5 and 1 spreads above their means; of 0.5 and 1 the distances are 2 and 0."""
    task = build(mean=(0.0, 0.1), std=(2.0, 0.2))
    loss = task.loss(feats([0.5, 1.0]), samples([5.0, 0.3]))['loss_smooth_l1']
    torch.testing.assert_close(loss, torch.tensor((2 - 0.5) / 2))


def test_the_prediction_by_hand():
    task, made = build(mean=(0.0, 0.1), std=(2.0, 0.2)), samples(None)
    task.predict(feats([0.5, 1.0]), made)
    torch.testing.assert_close(made[0].task_values, torch.tensor([1.0, 0.3]))


def test_a_sample_without_values_has_no_part_in_the_loss():
    task = build()
    loss = task.loss(feats([9.0, 9.0], [0.0, 0.0]), samples(None, [1.0, 0.0]))['loss_smooth_l1']
    torch.testing.assert_close(loss, torch.tensor(0.25))


def test_another_number_of_values():
    """Torch would compare the one with each of the two, and warn at most."""
    with pytest.raises(ValueError, match=re.escape("gives 1 values an image, whose gt_values are 2; set the head's")):
        build(num_values=1).loss(feats([1.0]), samples([1.0, 2.0]))


def test_scale_is_the_configs_and_not_the_checkpoints():
    assert {*build(mean=(0.5, 0.5)).state_dict()} == {'head.fc.weight', 'head.fc.bias'}


def test_a_view_as_the_whole_frame_has_it():
    """A lesion looks half as large where the view shows twice the side; its border's shape stays."""
    task, seen = build(lengths=(0,)), torch.tensor([0.3, 0.1])
    torch.testing.assert_close(task.of_frame(seen, side=2.0), torch.tensor([0.6, 0.1]))
    assert torch.equal(task.of_frame(seen, side=1.0), seen)
    assert task.of_frame(seen, side=0.8) is None
