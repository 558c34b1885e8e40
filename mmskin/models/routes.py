"""What each route of a network's feature passing does: how far it is open, and what closing it changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from mmengine.structures import PixelData
from torch import Tensor

from mmskin.models.averaging import blank
from mmskin.models.multitask import MultiTaskModel
from mmskin.models.passing.base import FeaturePassing
from mmskin.models.tasks.task import Task
from mmskin.models.watch import closed, rates_of, watched
from mmskin.structures import TaskSample

NOTHING = 0.005  # a change of an answer below it is none: half a percent of probability, or of a mask


@dataclass(frozen=True)
class RouteReading:
    """What one route does to N images.

    Attributes:
        gate: Its gate's values, means over channels (N, h, w); None of an operator without gates.
        closing: How far the answer moves if the route is closed, (N,) by task: the largest change of any class's
            probability or of any value, and of a mask 1 - Jaccard index of the two.
        flips: Whether the diagnosis is another then, (N,) by classification.
    """

    gate: Tensor | None
    closing: dict[str, Tensor] = field(default_factory=dict)
    flips: dict[str, Tensor] = field(default_factory=dict)

    @property
    def moves(self) -> bool:
        """Whether closing the route moves any answer for any image by more than ``NOTHING``."""
        changed = any(bool(flips.any()) for flips in self.flips.values())
        return changed or any(bool((values > NOTHING).any()) for values in self.closing.values())

    def __str__(self) -> str:
        """One line for a log."""
        parts = []
        if self.gate is not None:
            rates = self.gate.float().mean(dim=(1, 2))
            parts.append(
                f'gate open {rates.mean():.3f}, from image to image {rates.min():.3f} to {rates.max():.3f} '
                f'(SD {rates.std(correction=0):.3f})'
            )
        moved = ', '.join(
            f'{task} by {values.mean():.2g} on average, at most {values.max():.2g}'
            + (f', {int(self.flips[task].sum())} of {len(values)} decided otherwise' if task in self.flips else '')
            for task, values in self.closing.items()
        )
        return '; '.join([*parts, f'closing it moves {moved}' if self.moves else f'closing it moves nothing ({moved})'])


@torch.no_grad()
def read_routes(model: MultiTaskModel, inputs: Tensor, samples: Sequence[TaskSample]) -> dict[str, RouteReading]:
    """What each route does to a batch, named as ``blocks.4.2/cls2seg``; nothing is written into ``samples``.

    Call it in evaluation mode. It takes a forward pass, and another for each route.

    Args:
        model: The network.
        inputs: Normalised images (N, 3, H, W).
        samples: Theirs, for what the network is given with the images.
    """
    gates: dict[str, Tensor] = {}

    def note(site: str, operator: FeaturePassing, *given: Any) -> None:
        for route, rates in rates_of(operator, *given).items():
            gates[f'{site}/{route}'] = rates.float().mean(dim=1).expand(len(inputs), -1, -1)

    routes = model.routes()
    if not routes:
        return {}
    with watched(note):
        whole = _answers(model, inputs, samples)
    readings = {}
    for name, route in routes.items():
        with closed(*route):
            without = _answers(model, inputs, samples)
        closing, flips = {}, {}
        for task, before in whole.items():
            after = without[task]
            if before.dtype == torch.bool:  # of a mask
                closing[task] = (before ^ after).sum(dim=1) / (before | after).sum(dim=1).clamp(min=1)
            else:
                closing[task] = (before - after).abs().amax(dim=1)
            if cast(Task, model.tasks[task]).kind == 'classes':
                flips[task] = before.argmax(dim=1) != after.argmax(dim=1)
        readings[name] = RouteReading(gates.get(name), closing, flips)
    return readings


def join_readings(batches: Sequence[Mapping[str, RouteReading]]) -> dict[str, RouteReading]:
    """The readings of several batches as one, on the CPU."""

    def joined(parts: Sequence[Any]) -> Any:
        if isinstance(parts[0], Mapping):
            return {key: joined([part[key] for part in parts]) for key in parts[0]}
        return None if parts[0] is None else torch.cat(list(parts)).cpu()

    return {
        name: RouteReading(
            *(joined([getattr(batch[name], part) for batch in batches]) for part in ('gate', 'closing', 'flips'))
        )
        for name in (batches[0] if batches else ())
    }


def _answers(model: MultiTaskModel, inputs: Tensor, samples: Sequence[TaskSample]) -> dict[str, Tensor]:
    """What each active task says: (N, values), or of maps the mask (N, h * w) as booleans."""
    answered = model(inputs, blank(samples), 'predict')
    answers = {}
    for name in model.active_tasks:
        values = [getattr(sample, model.tasks[name].probability) for sample in answered]
        is_map = isinstance(values[0], PixelData)
        answers[name] = torch.stack([(value.data > 0.5).flatten() if is_map else value.float() for value in values])
    return answers
