"""Weights that stay as they are."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmskin.errors import Mistake
from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS

__all__ = ['FixedWeights']


@MODELS.register_module()
class FixedWeights(Weighting):
    """Constant weights; the plain sum of the losses by default.

    Args:
        tasks: See ``Weighting``.
        active_tasks: See ``Weighting``.
        weights: The weight of a task by its name, 1 for those that are not named.

    Raises:
        Mistake: if a weight is negative, or for no task of the network, or if weights come without names.
    """

    values: Tensor

    def __init__(
        self, tasks: Sequence[str], active_tasks: Sequence[str], weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(tasks, active_tasks)
        weights = weights or {}
        if not isinstance(weights, Mapping):
            raise Mistake(f'weights is {weights!r}; give them by task, as dict({tasks[0]}=2.0)')
        wrong = [f'{task}={weight}' for task, weight in weights.items() if task not in tasks or weight < 0]
        if wrong:
            raise Mistake(f'weights {", ".join(wrong)}: give a number >= 0 for some of the tasks {", ".join(tasks)}')
        values = torch.tensor([float(weights.get(task, 1)) for task in tasks])
        self.register_buffer('values', values, persistent=False)  # the config decides, not the checkpoint

    def weights(self, values: Tensor, present: Tensor) -> Tensor:
        return self.values
