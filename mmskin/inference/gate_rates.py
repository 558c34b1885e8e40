"""How much the gates let through, noted while a network predicts."""

from typing import Any

import torch
from torch import Tensor

from mmskin.models.passing.base import FeaturePassing, Features

__all__ = ['GateRates']

Rates = dict[str, dict[str, float]]


class GateRates:
    """The mean passing rates of the forward passes that it has ``watched``.

    They are means of ``MultiTaskModel.gates``, whose numbers the operator's ``quantity`` explains, over channels and
    positions, taken from the maps that pass by anyway: no forward pass of its own. Networks without
    feature passing have none.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Tensor]] = {}

    def note(self, site: str, operator: FeaturePassing, entering: Features, *given: Any) -> None:
        """Note the rates of the operator at ``site`` as its maps come in."""
        count = len(next(iter(entering.values())))
        for route, rates in operator.gates(entering, *given).items():
            means = rates.flatten(1).float().mean(dim=1)  # (N,), or (1,) of a rate that is the same for all images
            self._found.setdefault((site, route), []).append(means.expand(count))

    def by_image(self, count: int) -> list[Rates]:
        """The rates of each of the ``count`` images; where there were several views, their means."""
        images: list[dict[str, Any]] = [{} for _ in range(count)]
        for (site, route), views in self._found.items():
            for image, rate in zip(images, torch.cat(views).view(-1, count).mean(dim=0).tolist(), strict=True):
                image.setdefault(site, {})[route] = rate
        return images
