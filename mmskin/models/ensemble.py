"""The mean of what several networks predict."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.tasks.task import Task
from mmskin.models.tta import blank
from mmskin.models.watch import unwrap
from mmskin.models.weights import load_weights
from mmskin.registry import MODELS
from mmskin.structures import TaskSample

__all__ = ['Ensemble', 'load_members', 'member_configs', 'networks_in']


@MODELS.register_module()
class Ensemble(BaseModel):
    """Networks, such as those of a cross-validation's folds, whose predictions are averaged.

    Probabilities are averaged, and decisions (class, mask, its post-processing) follow from the means, as in
    ``TestTimeAugmentation``, whose ``module`` an ensemble may be. A task need not be every network's: its mean is over
    those that have it. An ensemble in an ensemble counts as its networks. It predicts and does not train.

    Args:
        members: configs of the networks. All prepare images alike.

    Raises:
        Mistake: if there is none, or one prepares images otherwise than the first.
    """

    def __init__(self, members: Sequence[dict]) -> None:
        if not members:
            raise Mistake('an ensemble without members: name one network at least')
        first, *others = (config.get('data_preprocessor') for config in member_configs(dict(members=members)))
        if odd := [other for other in others if other != first]:
            raise Mistake(f'the networks of an ensemble prepare images alike; one has {odd[0]}')
        super().__init__()
        self.members = nn.ModuleList(MODELS.build(member) for member in members)
        self.data_preprocessor = self.members[0].data_preprocessor
        self.tasks: list[Task] = [part for part in self.modules() if isinstance(part, Task)]

    def forward(self, inputs: Tensor, data_samples: list[TaskSample] | None = None, mode: str = 'tensor') -> Any:
        """Write the mean predictions for normalised images (N, 3, h, w) into ``data_samples``."""
        assert mode == 'predict' and data_samples is not None, 'an ensemble can only predict samples'
        found = [network(inputs, blank(data_samples), mode) for network in self.networks()]
        tasks: dict[str, Task] = {}  # the first network's that has it decides
        for task in self.tasks:
            tasks.setdefault(task.probability, task)
        for sample, predictions in zip(data_samples, zip(*found, strict=True), strict=True):
            for name, task in tasks.items():
                values = [getattr(prediction, name) for prediction in predictions if name in prediction]
                if values:
                    is_map = isinstance(values[0], PixelData)
                    mean = torch.stack([value.data if is_map else value for value in values]).mean(dim=0)
                    task.put(sample, mean)
        return data_samples

    def networks(self) -> Iterator[nn.Module]:
        """Those that predict: the members, and in place of an ensemble its own."""
        for member in self.members:
            if isinstance(member, Ensemble):
                yield from member.networks()
            else:
                yield member


def member_configs(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configs of the networks that a config's ``model`` is made of: an ensemble's, or itself."""
    return [inner for member in model['members'] for inner in member_configs(member)] if 'members' in model else [model]


def networks_in(network: nn.Module) -> list[MultiTaskModel]:
    """The networks that ``network`` is made of, which may be an ensemble or wrapped; an exported one has none."""
    inner = unwrap(network)
    parts = inner.networks() if isinstance(inner, Ensemble) else [inner]
    return [part for part in parts if isinstance(part, MultiTaskModel)]  # not modules(), which walks every layer


def load_members(network: nn.Module, files: Sequence[str | Path]) -> None:
    """Load a file into each network of an ensemble, or one file into all of ``network``.

    Raises:
        Mistake: if a file's weights are not its network's.
    """
    inner = unwrap(network)
    members = [*inner.members] if isinstance(inner, Ensemble) and len(files) > 1 else [inner]
    for member, file in zip(members, files, strict=True):
        load_weights(member, file)
