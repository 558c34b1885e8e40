"""Class weights are taken out of the probabilities that were learnt with them."""

import pytest
import torch

from mmskin.errors import Mistake
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

WEIGHTS = [1.4, 0.8, 1.7]


def built(undo=WEIGHTS, kind='Classification', loss=None):
    return MODELS.build(
        dict(
            type=kind,
            head=dict(type='ClsHead', in_channels=1, num_classes=3),
            losses=dict(ce=loss or dict(type='CrossEntropy', class_weight=WEIGHTS)),
            undo_class_weight=undo,
        )
    ).eval()


def samples(*labels):
    return [TaskSample(metainfo=dict(img_shape=(1, 1)), gt_label=torch.tensor([label])) for label in labels]


@pytest.mark.parametrize(
    ('undo', 'melanomas'), [(None, 0.2 * 1.4 / (0.2 * 1.4 + 0.7 * 0.8 + 0.1 * 1.7)), (WEIGHTS, 0.2)]
)
def test_the_probabilities_are_the_shares_of_what_was_learnt(undo, melanomas):
    """A network that can only learn how frequent ten images' classes are, 2 : 7 : 1, by the weighted loss."""
    images, task = samples(*[0] * 2, *[1] * 7, 2), built(undo)
    feats = (torch.zeros(10, 1, 1, 1),)
    optimizer = torch.optim.LBFGS([task.head.fc.bias], max_iter=100)

    def closure():
        optimizer.zero_grad()
        loss = task.loss(feats, images)['loss_ce']
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        task.predict(feats, images)
    score = images[0].task_score
    torch.testing.assert_close(score[0], torch.tensor(melanomas), atol=1e-4, rtol=0)
    torch.testing.assert_close(score.sum(), torch.tensor(1.0))
    if undo:
        torch.testing.assert_close(score, torch.tensor([0.2, 0.7, 0.1]), atol=1e-4, rtol=0)


def test_of_grades_too():
    loss = dict(type='torch.nn.BCEWithLogitsLoss')
    plain, undone = (built(undo, 'OrdinalClassification', loss) for undo in (None, [1, 2, 1, 1]))
    undone.load_state_dict(plain.state_dict())
    feats = (torch.ones(1, 1, 1, 1),)
    before, after = (task.estimate(feats, (1, 1))[0] for task in (plain, undone))
    torch.testing.assert_close(after[1] / after[0], before[1] / before[0] / 2)


@pytest.mark.parametrize(
    'weights', [[1.0, 0.0, 1.0], [1.0, -1.0, 1.0], [1.0, float('nan'), 1.0], 2.0, ['a', 'b', 'c'], []]
)
def test_wrong_weights_are_refused(weights):
    with pytest.raises(Mistake, match='undo_class_weight'):
        built(weights).estimate((torch.zeros(1, 1, 1, 1),), (1, 1))


def test_weights_of_other_classes_are_refused():
    with pytest.raises(Mistake, match='is for 2 classes, and the task task has 3'):
        built([1.0, 2.0]).estimate((torch.zeros(1, 1, 1, 1),), (1, 1))
