"""What every task has: a head on its branch, losses, and samples that may lack its label."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmskin.registry import MODELS
from mmskin.structures import TaskSample

__all__ = ['Task']

Feats = tuple[Tensor, ...]


class Task(BaseModule):
    """One task of a multi-task network.

    A subclass names the fields of its ground truth and its probability, and turns logits into losses and predictions.

    Args:
        head: Config of the head: ours, ``mmseg.X`` or ``mmpretrain.X``; its ``forward`` takes a tuple of feature maps
            and gives logits.
        losses: Configs by name, each built to a module called with logits and target. Left out, the head's own
            ``loss`` is used, as mmseg's and mmpretrain's heads have it.
        neck: Config of a module between branch and head, e.g. ``dict(type='mmpretrain.GlobalAveragePooling')``.
        loss_weight: Factor on all losses of the task.
    """

    target: ClassVar[str]
    probability: ClassVar[str]  # the sample's field that `predict` writes and `decide` reads

    def __init__(
        self, head: dict, losses: Mapping[str, dict] | None = None, neck: dict | None = None, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.neck = MODELS.build(neck) if neck else nn.Identity()
        self.head = MODELS.build(head)
        self.losses = nn.ModuleDict({name: MODELS.build(loss) for name, loss in losses.items()}) if losses else None
        self.loss_weight = loss_weight

    def forward(self, feats: Feats) -> Tensor:
        """Logits from the branch's feature maps."""
        return self.head(self.neck(feats))

    def loss(self, feats: Feats, samples: Sequence[TaskSample]) -> dict[str, Tensor]:
        """Losses over the samples that have this task's label.

        With none, a zero that still reaches every parameter, so that distributed training does not wait for it.
        """
        labelled = [i for i, sample in enumerate(samples) if self.target in sample]
        if not labelled:
            return {'loss': 0 * self(feats).sum()}
        if len(labelled) < len(samples):
            samples = [samples[i] for i in labelled]
        if self.losses is None:
            losses = self.head_loss(feats, samples, labelled)
        else:  # all images go through the head: batch norm over pooled maps cannot do with a single one
            logits, target = self.match(self(feats)[labelled].float(), samples)
            losses = {f'loss_{name}': loss(logits, target) for name, loss in self.losses.items()}
        return {name: value * self.loss_weight if 'loss' in name else value for name, value in losses.items()}

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits and target as the losses take them, of samples that all have a label."""
        raise NotImplementedError(f'{type(self).__name__} does not say what its losses compare')

    def head_loss(self, feats: Feats, samples: Sequence[TaskSample], labelled: list[int]) -> dict[str, Tensor]:
        """The head's own losses, by name, of the labelled samples; ``feats`` are of the whole batch."""
        return self.head.loss(self.neck(tuple(feat[labelled] for feat in feats)), samples)

    def predict(self, feats: Feats, samples: Sequence[TaskSample]) -> None:
        """Write the task's prediction into each sample."""
        raise NotImplementedError(f'{type(self).__name__} has no prediction')

    def decide(self, sample: TaskSample) -> None:
        """Write what follows from the sample's probability, which may be a mean over several predictions."""
