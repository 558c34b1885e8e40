"""What every task has: a head on its branch, losses, and samples that may lack its label."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mmengine.model import BaseModule
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.fusion.base import Fusion, Values
from mmskin.models.losses.building import build_losses
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

__all__ = ['Feats', 'Fused', 'Task']

Feats = tuple[Tensor, ...]


class Fused(tuple):
    """A branch's maps with what the network is told beside the images of the same call, ``values``."""

    values: Values

    def __new__(cls, maps: Sequence[Tensor], values: Values) -> 'Fused':
        feats = super().__new__(cls, maps)
        feats.values = values
        return feats


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
        fusion: Config of a ``Fusion``, which joins the network's ``inputs`` to this task, e.g.
            ``dict(type='FiLMFusion')``; one that changes the logits needs ``losses``.
    """

    target: ClassVar[str]
    probability: ClassVar[str]  # the sample's field that `predict` writes and `decide` reads
    num_logits: ClassVar[int | None] = None  # that the losses see of an image or a pixel, if not all of the head's

    def __init__(
        self,
        head: dict,
        losses: Mapping[str, dict] | None = None,
        neck: dict | None = None,
        loss_weight: float = 1.0,
        fusion: dict | None = None,
    ) -> None:
        super().__init__()
        self.neck = MODELS.build(neck) if neck else nn.Identity()
        self.head = MODELS.build(head)
        self.losses = build_losses(losses, self.head, self.num_logits)
        self.loss_weight = loss_weight
        self.fusion: Fusion | None = MODELS.build(fusion) if fusion else None
        if self.fusion and not self.losses and type(self.fusion).on_logits is not Fusion.on_logits:
            raise Mistake(
                f"{type(self.fusion).__name__} changes the logits, which the head's own loss does not see; give losses"
            )

    def fuse(self, feats: Feats, values: Values) -> Feats:
        """The branch's maps as they are with the network's inputs ``values``; the same maps without fusion."""
        if self.fusion is None:
            return feats
        *others, last = feats
        return Fused((*others, self.fusion.on_maps(last, values)), values)

    def forward(self, feats: Feats) -> Tensor:
        """Logits from the branch's feature maps, and the inputs that ``fuse`` has put beside them."""
        logits = self.head(self.neck(feats))
        if self.fusion is None:
            return logits
        return self.fusion.on_logits(logits, feats.values if isinstance(feats, Fused) else {})

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

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """``probability`` of a batch: (N, num_values), or maps (N, 1, h, w) at the input's ``size`` (h, w)."""
        raise NotImplementedError(f'{type(self).__name__} has no prediction')

    def predict(self, feats: Feats, samples: Sequence[TaskSample]) -> None:
        """Write the task's prediction into each sample."""
        self.write(self.estimate(feats, samples[0].img_shape), samples)

    def write(self, estimates: Tensor, samples: Sequence[TaskSample]) -> None:
        """Write what was estimated, and what follows from it, into each sample."""
        for sample, estimate in zip(samples, estimates, strict=True):
            setattr(sample, self.probability, PixelData(data=estimate) if estimate.ndim == 3 else estimate)
            self.decide(sample)

    def of_frame(self, prediction: Tensor, side: float) -> Tensor | None:
        """What a prediction that is no map says of the whole frame, if it says anything.

        Args:
            prediction: For a view.
            side: Of the view's window, as a share of the frame's.
        """
        return prediction

    def decide(self, sample: TaskSample) -> None:
        """Write what follows from the sample's probability, which may be a mean over several predictions."""
