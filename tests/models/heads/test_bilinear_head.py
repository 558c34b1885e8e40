"""Bilinear pooling worked out by hand."""

import torch
import torch.nn.functional as F

from mmskin.models.heads import BilinearHead, bilinear_pooling

# Two channels at two positions: (1, 2) and (0, -4). Outer products [1 2; 2 4] and [0 0; 0 16]; mean [.5 1; 1 10].
FEATURES = torch.tensor([[[[1.0, 0.0]], [[2.0, -4.0]]]])  # (1, 2, 1, 2)
MEAN = torch.tensor([[0.5, 1, 1, 10]])


def test_by_hand():
    """Square roots, over their norm, the square root of 0.5 + 1 + 1 + 10."""
    torch.testing.assert_close(bilinear_pooling(FEATURES, eps=0), MEAN.sqrt() / 12.5**0.5)


def test_the_root_keeps_the_sign():
    features = torch.tensor([[[[4.0]], [[-1.0]]]])
    torch.testing.assert_close(bilinear_pooling(features, eps=0), torch.tensor([[4.0, -2, -2, 1]]) / 5)


def test_gradient_is_finite_where_channels_never_meet():
    features = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]], requires_grad=True)
    bilinear_pooling(features)[0, 0].backward()
    assert features.grad.isfinite().all()


def test_place_does_not_matter():
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(bilinear_pooling(x), bilinear_pooling(x.flip(3).transpose(2, 3)))


def test_the_other_maps_are_averaged_to_length_one():
    head, globals_ = BilinearHead((3, 2)), torch.randn(1, 3, 6, 6)
    joined = torch.cat([F.normalize(globals_.mean((2, 3))), bilinear_pooling(FEATURES)], dim=1)
    torch.testing.assert_close(head((globals_, FEATURES)), head.fc(joined))
    assert head.fc.in_features == 3 + 2 * 2
