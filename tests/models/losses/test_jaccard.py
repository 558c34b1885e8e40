"""The Jaccard distance on numbers small enough to be worked out by hand, and against the metric."""

from math import log

import pytest
import torch

from mmskin.evaluation.segmentation import segmentation_scores
from mmskin.models.losses import JaccardLoss

# One lesion pixel of four; P(y=1) = 4/5 there, and 1/5, 1/2, 1/4 off the lesion.
MASK = torch.tensor([[[[1, 0], [0, 0]]]])  # (1, 1, 2, 2)
LOGITS = torch.tensor([[[[log(4), log(1 / 4)], [0, log(1 / 3)]]]])
OVERLAP, SQUARES = 0.8, 0.64 + 0.04 + 0.25 + 0.0625


@pytest.mark.parametrize(
    ('smooth', 'expected'),
    [(0.0, 1 - OVERLAP / (1 + SQUARES - OVERLAP)), (1.0, 1 - (OVERLAP + 1) / (1 + SQUARES - OVERLAP + 1))],
)
def test_by_hand(smooth, expected):
    torch.testing.assert_close(JaccardLoss(smooth)(LOGITS, MASK), torch.tensor(expected))


def test_images_weigh_alike_whatever_their_lesions_size():
    logits, masks = torch.randn(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    masks[0, :, :2, :2], masks[1, :, :, 1:] = 1, 1
    loss = JaccardLoss()
    each = [loss(logits[i : i + 1], masks[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(logits, masks), sum(each) / 2)


def test_of_a_hard_mask_it_is_one_minus_ja():
    truth, called = torch.rand(2, 1, 9, 9).gt(0.5)
    logits = torch.where(called, 50.0, -50.0)[None]
    expected = 1 - segmentation_scores(called.numpy(), truth.numpy())['JA']
    torch.testing.assert_close(JaccardLoss(0)(logits, truth[None]), torch.tensor(expected, dtype=torch.float32))


def test_no_lesion_has_a_gradient():
    logits = torch.zeros(1, 1, 3, 3, requires_grad=True)
    JaccardLoss()(logits, torch.zeros(1, 1, 3, 3)).backward()
    assert (logits.grad > 0).all()
