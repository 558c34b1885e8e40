"""U-Net's decoder over maps of any size."""

import torch

from mmskin.models.heads import UNetHead


def test_ends_at_the_finest_map_whatever_the_sizes():
    head = UNetHead((3, 4, 5), channels=6)
    maps = [torch.randn(2, width, side, side + 1) for width, side in ((3, 37), (4, 18), (5, 5))]
    assert head(maps).shape == (2, 1, 37, 38)


def test_every_map_counts():
    head = UNetHead((3, 4, 5), channels=6)
    maps = [torch.randn(2, width, 8, 8, requires_grad=True) for width in (3, 4, 5)]
    head(maps).square().sum().backward()
    assert all(feat.grad.any() for feat in maps)
