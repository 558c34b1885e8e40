"""Building the losses of a task from their configs, and checking their weights against its head."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.registry import MODELS

__all__ = ['build_losses']

LARGEST = torch.finfo(torch.float32).max
WEIGHTS = ('class_weight', 'weight', 'pos_weight')  # a number for each of the head's outputs


def build_losses(
    configs: Mapping[str, dict] | None, head: nn.Module, num_logits: int | None = None
) -> nn.ModuleDict | None:
    """The losses by name; None where the head has its own, which are checked as well.

    A config writes weights as a list, which torch's losses take as a tensor: ``dict(type='torch.nn.BCEWithLogitsLoss',
    pos_weight=[2.0])``.

    Args:
        configs: By name.
        head: Of the task.
        num_logits: How many logits an image or a pixel has when the losses see it, if not those of the head.

    Raises:
        Mistake: if a list of weights has another length than there are logits.
    """
    losses = nn.ModuleDict({name: MODELS.build(with_tensors(loss)) for name, loss in (configs or {}).items()})
    outputs = num_logits if configs and num_logits else num_outputs(head)
    if outputs is not None:
        for part in losses.modules() if losses else head.modules():
            for name in WEIGHTS:
                check_length(part, name, outputs)
    return losses if configs else None


def with_tensors(loss: dict[str, Any]) -> dict[str, Any]:
    """The config of one of torch's losses with tensors in place of lists of weights; any other as it is."""
    kind = loss.get('type') if isinstance(loss, Mapping) else None
    path = kind if isinstance(kind, str) else f'{getattr(kind, "__module__", "")}.'
    if not path.startswith('torch.nn.'):
        return loss
    lists = {name: loss[name] for name in WEIGHTS if isinstance(loss.get(name), int | float | list | tuple)}
    for name, values in lists.items():
        lists[name] = [values] if isinstance(values, int | float) else values
        numbers = [value for value in lists[name] if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) < len(lists[name]) or not any(numbers) or not all(0 <= one < LARGEST for one in numbers):
            raise Mistake(f'{kind}({name}={values!r}): give numbers >= 0, and not 0 for all')
    return {**loss, **{name: torch.tensor(values, dtype=torch.float32) for name, values in lists.items()}}


def num_outputs(head: nn.Module) -> int | None:
    """How many logits a head gives an image or a pixel, if it says."""
    said = [getattr(head, 'out_channels', None), getattr(head, 'num_classes', None)]
    said.append(getattr(getattr(head, 'fc', None), 'out_features', None))
    return next((number for number in said if isinstance(number, int)), None)


def check_length(part: nn.Module, name: str, outputs: int) -> None:
    """Raise a ``Mistake`` if weights of a loss are not one for each output; where it is binary, one is for all."""
    values = getattr(part, name, None)
    if isinstance(values, nn.Parameter) or not isinstance(values, list | tuple | Tensor):
        return
    is_binary = name == 'pos_weight' or isinstance(part, nn.BCELoss | nn.BCEWithLogitsLoss)
    if len(values) == outputs or (is_binary and len(values) == 1) or (outputs == 1 and not is_binary):
        return  # how one logit for two classes is weighed, the loss decides
    listed = values.tolist() if isinstance(values, Tensor) else [*values]
    raise Mistake(f'{type(part).__name__}({name}={listed}): it gets {outputs} logits; give {outputs} numbers')
