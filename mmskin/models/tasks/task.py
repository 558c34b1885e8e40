"""What every task has: a head on its branch, losses, and samples that may lack its label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.fusion import Fusion, Values
from mmskin.models.losses import build_losses
from mmskin.models.shapes import of_losses, of_shape
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

Feats = tuple[Tensor, ...]


class Fused(tuple):
    """A branch's maps with what the network is given with the images of the same call, ``values``."""

    values: Values

    def __new__(cls, maps: Sequence[Tensor], values: Values) -> 'Fused':
        feats = super().__new__(cls, maps)
        feats.values = values
        return feats


@dataclass(eq=False)
class Answer:
    """What a task says of one image, as plain objects; tables, pages and files show it as it is.

    Attributes:
        label: In a word, such as the likeliest class; None where the task measures or outlines.
        numbers: A probability or a value by its name.
        masks: What is outlined, bool (H, W), by its name.
        maps: The probability of what is outlined, float32 (H, W), by the same names, if it was asked for.
    """

    label: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    maps: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


class Task(BaseModule):
    """One task of a multi-task network.

    A subclass says which field of a sample its ground truth is in by default, turns logits into losses and predictions,
    and describes what it predicts. Predictions are in fields that begin with the task's name, its key in the network's
    ``tasks``: ``sex_score`` and ``sex_label`` of a classification ``sex``. So one kind of task may be there several
    times.

    Args:
        head: Config of the head: ours, ``mmseg.X`` or ``mmpretrain.X``; its ``forward`` takes a tuple of feature maps
            and gives logits.
        losses: Configs by name, each built to a module called with logits and target. Left out, the head's own
            ``loss`` is used, as mmseg's and mmpretrain's heads have it.
        neck: Config of a module between branch and head, e.g. ``dict(type='mmpretrain.GlobalAveragePooling')``.
        loss_weight: Factor on all losses of the task.
        fusion: Config of a ``Fusion``, which joins the network's ``inputs`` to this task, e.g.
            ``dict(type='FiLMFusion')``; one that changes the logits needs ``losses``.
        target: The sample's field with the ground truth, such as ``'gt_sex'``; each kind of task has its own default.

    Attributes:
        name: Its key in the network's ``tasks``.
        kind: What it gives: 'classes' (one of several), 'labels' (any of several), 'values' or 'masks'.
        estimated: The end of the name of the field that ``put`` writes and ``decide`` reads.
        meaning: Of the numbers that ``estimate`` gives, for readers of an exported file.
    """

    name: str = 'task'
    target: str
    kind: ClassVar[str] = ''
    estimated: ClassVar[str] = 'score'
    meaning: ClassVar[str] = ''
    num_logits: ClassVar[int | None] = None  # that the losses see of an image or a pixel, if not all of the head's

    def __init__(
        self,
        head: dict,
        losses: Mapping[str, dict] | None = None,
        neck: dict | None = None,
        loss_weight: float = 1.0,
        fusion: dict | None = None,
        target: str | None = None,
    ) -> None:
        super().__init__()
        if target is not None:
            self.target = target
        self.neck = MODELS.build(neck) if neck else nn.Identity()
        self.head = MODELS.build(head, kind='heads')
        self.losses = build_losses(losses, self.head, self.num_logits)
        self.loss_weight = loss_weight
        self.fusion: Fusion | None = MODELS.build(fusion, kind=Fusion) if fusion else None
        if self.fusion and not self.losses and type(self.fusion).on_logits is not Fusion.on_logits:
            raise Mistake(
                f"{type(self.fusion).__name__} changes the logits, which the head's own loss does not see; give losses"
            )

    def fuse(self, feats: Feats, values: Values) -> Feats:
        """The branch's maps as they are with the network's inputs ``values``; the same maps without fusion."""
        if self.fusion is None:
            return feats
        *others, last = feats
        return Fused((*others, of_shape(self.fusion.on_maps(last, values), self.fusion, *last.shape)), values)

    def forward(self, feats: Feats) -> Tensor:
        """Logits from the branch's feature maps, and the inputs that ``fuse`` has put next to them."""
        logits = self.head(self.neck(feats))
        if self.kind:
            count = feats[-1].shape[0]  # an export would take len() for a constant
            of_shape(logits, self.head, count, *('C', 'H', 'W') if self.kind == 'masks' else 'C')
        if self.fusion is None:
            return logits
        fused = self.fusion.on_logits(logits, feats.values if isinstance(feats, Fused) else {})
        return of_shape(fused, self.fusion, *logits.shape)

    def loss(self, feats: Feats, samples: Sequence[TaskSample]) -> dict[str, Tensor]:
        """Losses over the samples that have this task's label.

        With none, a zero that still reaches every parameter, so that distributed training does not wait for it.
        """
        labelled = [i for i, sample in enumerate(samples) if self.is_labelled(sample)]
        if not labelled:
            return {'loss': 0 * self(feats).sum()}
        if len(labelled) < len(samples):
            samples = [samples[i] for i in labelled]
        if self.losses is None:
            losses = of_losses(self.head_loss(feats, samples, labelled), self, 'head_loss')
        else:  # all images go through the head: batch norm over pooled maps cannot do with a single one
            logits, target = self.match(self(feats)[labelled].float(), samples)
            losses = {f'loss_{name}': loss(logits, target) for name, loss in self.losses.items()}
            for name, value in losses.items():
                is_loss = isinstance(value, Tensor)
                if not is_loss or (logits.requires_grad and not value.requires_grad and value.any()):
                    what = 'a tensor without gradient' if is_loss else f'a {type(value).__name__}'
                    raise Mistake(f'{name} of {self.name} is {what}; return a tensor computed from the logits')
                if not value.requires_grad:  # nothing to learn of this batch, which has to reach every parameter
                    losses[name] = value + 0 * logits.sum()
        return {name: value * self.loss_weight if 'loss' in name else value for name, value in losses.items()}

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits and target as the losses take them, of samples that all have a label."""
        raise NotImplementedError(f'{type(self).__name__} does not say what its losses compare')

    def is_labelled(self, sample: TaskSample) -> bool:
        """Whether a sample has this task's ground truth, and some of it is known."""
        truth = sample.get(self.target)
        return truth is not None and not (isinstance(truth, Tensor) and bool(truth.isnan().all()))

    def truth(self, sample: TaskSample) -> Any:
        """The ground truth of a sample that has it."""
        return sample.get(self.target)

    def upstream(self, sample: TaskSample) -> TaskSample:
        """A sample's ground truth in the field in which mmseg's and mmpretrain's heads look for it."""
        return sample

    def head_loss(self, feats: Feats, samples: Sequence[TaskSample], labelled: list[int]) -> dict[str, Tensor]:
        """The head's own losses, by name, of the labelled samples; ``feats`` are of the whole batch."""
        feats = self.neck(tuple(feat[labelled] for feat in feats))
        return self.head.loss(feats, [self.upstream(sample) for sample in samples])

    @property
    def probability(self) -> str:
        """The sample's field with what was estimated, such as ``cls_score``."""
        return f'{self.name}_{self.estimated}'

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """What is estimated of a batch: (N, num_values), or maps (N, C, h, w) at the input's ``size`` (h, w)."""
        raise NotImplementedError(f'{type(self).__name__} has no prediction')

    def predict(self, feats: Feats, samples: Sequence[TaskSample]) -> None:
        """Write the task's prediction into each sample."""
        self.write(self.estimate(feats, samples[0].img_shape), samples)

    def write(self, estimates: Tensor, samples: Sequence[TaskSample]) -> None:
        """Write what was estimated, and what follows from it, into each sample."""
        shape = 'Chw' if getattr(estimates, 'ndim', 2) == 4 else 'C'
        for sample, estimate in zip(samples, of_shape(estimates, self, len(samples), *shape), strict=True):
            self.put(sample, estimate)

    def put(self, sample: TaskSample, estimate: Tensor) -> None:
        """Write an estimate, which may be a mean over several, and what follows from it into a sample.

        The sample's ``targets`` say then where the ground truth of this task is, for metrics and pictures.
        """
        sample.set_field(PixelData(data=estimate) if estimate.ndim == 3 else estimate, self.probability)
        sample.set_metainfo({'targets': {**sample.get('targets', {}), self.name: self.target}})
        if not sample.get('undecided'):  # as one of several views is, whose mean decides
            self.decide(sample)

    def of_frame(self, prediction: Tensor, side: float) -> Tensor | None:
        """What a prediction that is no map says of the whole frame, if it says anything.

        Args:
            prediction: For a view.
            side: Of the view's window, as a share of the frame's.
        """
        return prediction

    def decide(self, sample: TaskSample) -> None:
        """Write what follows from the sample's probability, such as the likeliest class."""

    def answer(self, sample: TaskSample, names: Sequence[str] = (), maps: bool = False) -> Answer:
        """What was predicted for a sample, as plain objects.

        Args:
            sample: In which ``put`` has written.
            names: Of the classes, labels, values or outlines, in their order; their numbers if there are none.
            maps: With the maps of probability.
        """
        values = sample.get(self.probability)
        assert isinstance(values, Tensor), f'{type(self).__name__} gives maps, and describes them itself'
        return Answer(numbers=dict(zip(self.named(names, len(values)), values.tolist(), strict=True)))

    def named(self, names: Sequence[str], count: int) -> list[str]:
        """``names``, or the numbers of ``count`` outputs if there are none."""
        if names and len(names) != count:
            raise Mistake(
                f'the task {self.name} has {count} outputs, and the data set {len(names)} names for {self.target}: '
                f"{', '.join(names)}; set the head's outputs, or the names in the data set's metainfo"
            )
        return list(names) or [str(index) for index in range(count)]

    def describe(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """What an exported file says of this task; options of its constructor among them are those it predicts with."""
        described = {'task': self.name, 'type': type(self).__name__, 'target': self.target, 'meaning': self.meaning}
        return {**described, **({'classes': list(names)} if names else {})}
