"""Naming: one class of several, one grade of several in order, or any labels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmskin.errors import Mistake
from mmskin.models.tasks.task import Answer, Feats, Task
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

SURE = 40.0  # a logit whose probability is 1 in float32


@MODELS.register_module()
class Classification(Task):
    """One of several classes per image: ``gt_label`` in, ``<task>_score`` (softmax) and ``<task>_label`` out.

    The ground truth is a class, or a number for each class, such as how many of several readers chose it: votes are
    learnt as their shares, and metrics take the class with the most.

    Args:
        options: See ``Task``.
        undo_class_weight: The class weights that the loss had. They tilt the probabilities that a network learns, which
            are divided by them and scaled to sum to 1 again (Saerens et al., Adjusting the outputs of a classifier to
            new a priori probabilities, Neural Computation 14, 2002, eq. 2.4).

    Raises:
        Mistake: if a weight is not above 0, or in a call, if there are more or fewer than classes.
    """

    target = 'gt_label'
    kind = 'classes'
    meaning = 'softmax over the classes'

    def __init__(self, *args: Any, undo_class_weight: Sequence[float] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        if undo_class_weight is not None and not all(0 < weight < math.inf for weight in undo_class_weight):
            raise Mistake(f'undo_class_weight={undo_class_weight}: give a number > 0 for each class')
        self.undo_class_weight = undo_class_weight

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits (N, num_classes) and labels (N,), or the classes' shares (N, num_classes) of the votes."""
        truths = [self.truth(sample) for sample in samples]
        count = self.by_class(logits).shape[1]
        if not truths[0].is_floating_point():
            labels = torch.cat(truths)
            if bool(((labels < 0) | (labels >= count)).any()):
                self._refuse(samples, [not 0 <= int(label) < count for label in labels], f'0 to {count - 1}')
            return logits, labels
        votes = torch.stack(truths)
        self.named(['class'] * votes.shape[1], count)
        if bool((votes < 0).any()):
            self._refuse(samples, (votes < 0).any(dim=1).tolist(), 'votes >= 0')
        return logits, votes / votes.sum(dim=1, keepdim=True)

    def _refuse(self, samples: Sequence[TaskSample], wrong: Sequence[bool], allowed: str) -> None:
        sample = samples[[*wrong].index(True)]
        raise Mistake(
            f'{sample.get("image_id")}: {self.target} is {self.truth(sample).tolist()}, and the task {self.name} takes '
            f'{allowed}; correct it, or the number of classes of its head'
        )

    def is_labelled(self, sample: TaskSample) -> bool:
        """Whether a sample has a class, or a vote for any; not if a number of votes is unknown."""
        if not super().is_labelled(sample):
            return False
        truth = self.truth(sample)
        return not truth.is_floating_point() or bool(truth.isfinite().all() and truth.sum() > 0)

    def by_class(self, logits: Tensor) -> Tensor:
        """What speaks for each class (N, num_classes), of the head's logits."""
        return logits

    def upstream(self, sample: TaskSample) -> TaskSample:
        """A sample with a ``gt_label``, or with votes as their shares in ``gt_score``."""
        truth = self.truth(sample)
        return TaskSample(gt_score=truth / truth.sum()) if truth.is_floating_point() else TaskSample(gt_label=truth)

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities (N, num_classes)."""
        return self.unweighted(self(feats).float().softmax(dim=1))

    def unweighted(self, scores: Tensor) -> Tensor:
        """Probabilities (N, num_classes) as if the loss had weighted all classes alike."""
        if self.undo_class_weight is None:
            return scores
        if len(self.undo_class_weight) != scores.shape[1]:
            raise Mistake(
                f'undo_class_weight={self.undo_class_weight} is for {len(self.undo_class_weight)} classes, and the '
                f'task {self.name} has {scores.shape[1]}; give one number for each'
            )
        scores = scores / scores.new_tensor(self.undo_class_weight)
        return scores / scores.sum(dim=1, keepdim=True)

    def decide(self, sample: TaskSample) -> None:
        """Write the likeliest class as ``<task>_label``."""
        sample.set_field(sample.get(self.probability).argmax(dim=0, keepdim=True), f'{self.name}_label')

    def answer(self, sample: TaskSample, names: Sequence[str] = (), maps: bool = False) -> Answer:
        """The probabilities, and the class that was decided for."""
        answer = super().answer(sample, names)
        answer.label = [*answer.numbers][int(sample.get(f'{self.name}_label'))]
        return answer


@MODELS.register_module()
class OrdinalClassification(Classification):
    """One of several grades in order, such as of a retinopathy: ``<task>_score`` and ``<task>_label`` out.

    The head gives K - 1 logits for K grades, the k-th of "the grade is above k", as in Frank and Hall
    (https://doi.org/10.1007/3-540-44795-4_13) and Niu et al. (https://doi.org/10.1109/CVPR.2016.532). Losses compare
    them with 0 and 1, e.g. ``torch.nn.BCEWithLogitsLoss``: a grade that is far off costs more than its neighbour. The
    score is the probability of each grade, and the label the middle of the distribution.
    """

    meaning = 'probability of each grade'

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits and whether the grade is above each but the last (N, num_grades - 1)."""
        _, grades = super().match(logits, samples)
        if grades.is_floating_point():  # the share of the votes above each grade
            return logits, (1 - grades.cumsum(dim=1)[:, :-1]).to(logits.dtype)
        above = grades[:, None] > torch.arange(logits.shape[1], device=grades.device)
        return logits, above.to(logits.dtype)

    def by_class(self, logits: Tensor) -> Tensor:
        """For a grade speaks what says that it is above the one before, and for the first what says that it is not."""
        return torch.cat([-logits[:, :1], logits], dim=1)

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities (N, num_grades), of logits that are made to fall from grade to grade."""
        rates = self(feats).float().sigmoid()
        above = torch.stack([rates[:, : k + 1].amin(dim=1) for k in range(rates.shape[1])], dim=1)  # ONNX has no cummin
        ones, zeros = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
        return self.unweighted(torch.cat([ones, above], dim=1) - torch.cat([above, zeros], dim=1))

    def decide(self, sample: TaskSample) -> None:
        """Write the grade that as much lies below as above of."""
        above = 1 - sample.get(self.probability).cumsum(dim=0)[:-1]
        sample.set_field((above > 0.5).sum(dim=0, keepdim=True), f'{self.name}_label')


@MODELS.register_module()
class MultiLabelClassification(Task):
    """Any of several labels per image: ``gt_labels`` in, ``<task>_score`` and ``<task>_labels`` out.

    The ground truth is float32 (num_labels,): 0 or 1, NaN where a label is unknown. Losses compare logits with 0 and 1,
    e.g. ``torch.nn.BCEWithLogitsLoss``; to them an unknown label is one that is predicted right, from which nothing is
    learnt.
    """

    target = 'gt_labels'
    kind = 'labels'
    meaning = 'probability of each label, for itself'

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits and 0 or 1 (N, num_labels); where a label is unknown, a logit that is sure of a 1, and 1."""
        labels = torch.stack([self.truth(sample) for sample in samples])
        self.named(['label'] * labels.shape[1], logits.shape[1])
        unknown = labels.isnan()
        return logits.masked_fill(unknown, SURE), labels.masked_fill(unknown, 1.0).to(logits.dtype)

    def upstream(self, sample: TaskSample) -> TaskSample:
        """A sample with a ``gt_score``, all of which mmpretrain's heads need to know."""
        labels = self.truth(sample)
        if labels.isnan().any():
            raise Mistake(f'{sample.get("image_id")}: a label of {self.target} is unknown; give {self.name} losses')
        return TaskSample(gt_score=labels)

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Probabilities (N, num_labels)."""
        return self(feats).float().sigmoid()

    def decide(self, sample: TaskSample) -> None:
        """Write which labels are likelier than not, 0 or 1, as ``<task>_labels``."""
        sample.set_field((sample.get(self.probability) > 0.5).long(), f'{self.name}_labels')

    def answer(self, sample: TaskSample, names: Sequence[str] = (), maps: bool = False) -> Answer:
        """The probabilities, and the labels that were decided for, joined by commas."""
        answer = super().answer(sample, names)
        chosen = sample.get(f'{self.name}_labels').tolist()
        answer.label = ', '.join(name for name, there in zip(answer.numbers, chosen, strict=True) if there) or 'none'
        return answer
