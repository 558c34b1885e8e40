"""Measuring: numbers that an image has."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmskin.errors import Mistake
from mmskin.models.tasks.task import Feats, Task
from mmskin.registry import MODELS
from mmskin.structures import TaskSample


@MODELS.register_module()
class Regression(Task):
    """One or more numbers per image: ``gt_values`` in, ``<task>_values`` out.

    The head, e.g. ``ClsHead``, gives each value as ``(value - mean) / std``, and the losses, e.g.
    ``torch.nn.SmoothL1Loss``, compare it so: a value of small numbers is learnt like one of large numbers.

    Args:
        mean: Of each value over the training set, or one for all.
        std: Their standard deviations, likewise.
        lengths: Which values (from 0) are lengths as shares of the frame's side: a view of test-time augmentation that
            magnifies the image magnifies these.
        options: See ``Task``.
    """

    target = 'gt_values'
    kind = 'values'
    estimated = 'values'
    meaning = 'the values as they are'
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *args: Any,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        lengths: Sequence[int] = (),
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.register_buffer('mean', torch.tensor(mean), persistent=False)
        self.register_buffer('std', torch.tensor(std), persistent=False)
        self.lengths = list(lengths)

    def match(self, logits: Tensor, samples: Sequence[TaskSample]) -> tuple[Tensor, Tensor]:
        """Logits and standardised values (N, num_values), or the known ones in a row where some are not known.

        Raises:
            Mistake: if the head gives another number of values than the samples have; torch would stretch one.
        """
        values = torch.stack([self.truth(sample).float() for sample in samples])
        if logits.shape != values.shape or {len(self.mean), len(self.std)} - {1, values.shape[1]}:
            raise Mistake(
                f'the head of {self.name} gives {logits.shape[1]} values an image, whose {self.target} are '
                f"{values.shape[1]}; set the head's num_classes, and the numbers in mean and std"
            )
        known, values = ~values.isnan(), (values - self.mean) / self.std
        return (logits, values) if known.all() else (logits[known], values[known])

    def estimate(self, feats: Feats, size: Sequence[int]) -> Tensor:
        """Values (N, num_values)."""
        return self(feats).float() * self.std + self.mean

    def of_frame(self, prediction: Tensor, side: float) -> Tensor | None:
        """The values of a view as the whole frame has them; none of a crop, which may cut what is measured."""
        if side < 1:
            return None
        factor = torch.ones_like(prediction)
        factor[self.lengths] = side
        return prediction * factor

    def describe(self, names: Sequence[str] = ()) -> dict[str, Any]:
        return {**super().describe(names), 'lengths': self.lengths}
