"""The mean of what several networks predict."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.tasks.task import Task
from mmskin.models.tta import blank
from mmskin.models.watch import unwrap
from mmskin.models.weights import load_weights
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

__all__ = ['Ensemble', 'load_members']


@MODELS.register_module()
class Ensemble(BaseModel):
    """Networks of the same tasks, such as those of a cross-validation's folds, whose predictions are averaged.

    Probabilities are averaged, and decisions (class, mask, its post-processing) follow from the means, as in
    ``TestTimeAugmentation``, whose ``module`` an ensemble may be. It predicts and does not train.

    Args:
        members: configs of the networks. All prepare images alike.

    Raises:
        Mistake: if there is none, or one prepares images otherwise than the first.
    """

    def __init__(self, members: Sequence[dict]) -> None:
        if not members:
            raise Mistake('an ensemble without members: name one network at least')
        if odd := [m for m in members if m.get('data_preprocessor') != members[0].get('data_preprocessor')]:
            raise Mistake(
                f'the networks of an ensemble prepare images alike; one has {odd[0].get("data_preprocessor")}'
            )
        super().__init__()
        self.members = nn.ModuleList(MODELS.build(member) for member in members)
        self.data_preprocessor = self.members[0].data_preprocessor

    def forward(self, inputs: Tensor, data_samples: list[TaskSample] | None = None, mode: str = 'tensor') -> Any:
        """Write the mean predictions for normalised images (N, 3, h, w) into ``data_samples``."""
        assert mode == 'predict' and data_samples is not None, 'an ensemble can only predict samples'
        found = [member(inputs, blank(data_samples), mode) for member in self.members]
        tasks = {part.probability: part for part in self.members[0].modules() if isinstance(part, Task)}
        for sample, predictions in zip(data_samples, zip(*found, strict=True), strict=True):
            for name, task in tasks.items():
                values = [getattr(prediction, name) for prediction in predictions if name in prediction]
                if values:
                    is_map = isinstance(values[0], PixelData)
                    mean = torch.stack([value.data if is_map else value for value in values]).mean(dim=0)
                    task.put(sample, mean)
        return data_samples


def load_members(network: nn.Module, files: Sequence[str | Path]) -> None:
    """Load a file into each network of an ensemble, or the one file into a network that is none.

    Raises:
        Mistake: if a file's weights are not its network's.
    """
    inner = unwrap(network)
    for member, file in zip(inner.members if isinstance(inner, Ensemble) else [inner], files, strict=True):
        load_weights(member, file)
