"""Weights of classes that are 0, too many or too few, and batches without anything to learn from."""

import pytest
import torch
from torch import nn

from mmskin.errors import Mistake
from mmskin.models.losses import CrossEntropy
from mmskin.registry import MODELS

HEAD = dict(type='ClsHead', in_channels=4)
FOREIGN = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=4)


@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_a_batch_whose_classes_all_weigh_nothing_costs_nothing(smoothing):
    logits = torch.randn(2, 3, requires_grad=True)
    loss = CrossEntropy(class_weight=[0.0, 1.0, 1.0], label_smoothing=smoothing)(logits, torch.tensor([0, 0]))
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize('weight', [None, [0.5, 0.0, 2.0]])
@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_any_other_batch_costs_what_torch_says(weight, smoothing):
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 0, 1])
    theirs = nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight), label_smoothing=smoothing)
    torch.testing.assert_close(CrossEntropy(weight, smoothing)(logits, labels), theirs(logits, labels))


@pytest.mark.parametrize('weight', [[], [0, 0, 0], [1, -1, 1], [1, float('nan'), 1], [1, float('inf'), 1], [1, 2]])
def test_weights_that_make_no_sense_are_refused_when_built(weight):
    with pytest.raises(Mistake, match='class_weight='):
        MODELS.build(
            dict(type='Classification', head=HEAD, losses=dict(a=dict(type=CrossEntropy, class_weight=weight)))
        )


@pytest.mark.parametrize(
    'weight', [[0, 0, 0], [1, -1, 1], [float('nan'), 1, 1], [1, float('inf'), 1], [1e39, 1, 1], [True] * 3]
)
def test_weights_for_losses_of_torch_are_numbers_as_well(weight):
    loss = dict(type='torch.nn.CrossEntropyLoss', weight=weight)
    with pytest.raises(Mistake, match='give numbers >= 0, and not 0 for all'):
        MODELS.build(dict(type='Classification', head=HEAD, losses=dict(one=loss)))


@pytest.mark.parametrize(
    'loss',
    [
        dict(type='torch.nn.CrossEntropyLoss', weight=[1, 2]),
        dict(type=nn.CrossEntropyLoss, weight=2.0),
        dict(type='torch.nn.BCEWithLogitsLoss', pos_weight=[1, 2]),
        dict(type='mmpretrain.CrossEntropyLoss', class_weight=[1, 2]),
        dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True, pos_weight=[1, 2, 3, 4]),
    ],
)
def test_weights_of_other_lengths_are_refused_when_built(loss):
    with pytest.raises(Mistake, match=r'weight=\[.*: it gets 3 logits; give 3 numbers'):
        MODELS.build(dict(type='Classification', head=HEAD, losses=dict(one=loss)))
    if loss['type'] == 'mmpretrain.CrossEntropyLoss':
        with pytest.raises(Mistake, match='it gets 3 logits'):
            MODELS.build(dict(type='Classification', head=dict(**FOREIGN, loss=loss)))


@pytest.mark.parametrize('weight', [[2.0], 2.0])
def test_lists_and_numbers_reach_the_losses_of_torch(weight):
    """For a mask there is one logit a pixel, whatever the head gives."""
    loss = dict(type='torch.nn.BCEWithLogitsLoss', pos_weight=weight)
    head = dict(type='ASPPHead', in_channels=4)
    task = MODELS.build(dict(type='Segmentation', head=head, losses=dict(bce=loss)))
    assert torch.isclose(task.losses['bce'](torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)), torch.tensor(1.3863))
    with pytest.raises(Mistake, match=r'pos_weight=\[1\.0, 2\.0\]\): it gets 1 logits'):
        MODELS.build(dict(type='Segmentation', head=head, losses=dict(bce={**loss, 'pos_weight': [1, 2]})))


def test_one_logit_is_refused():
    """Its softmax is 1 for any logit: the loss is 0, and nothing is learnt."""
    with pytest.raises(Mistake, match='one logit'):
        CrossEntropy()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64))
