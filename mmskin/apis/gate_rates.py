"""How much the gates let through, noted while a network predicts."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.multitask import MultiTaskModel

__all__ = ['GateRates']

Rates = dict[str, dict[str, float]]


class GateRates:
    """The mean passing rates of a network's last predictions, image by image.

    They are means of ``MultiTaskModel.gates`` over channels and positions, taken from the maps that pass by anyway: no
    forward pass of its own. Networks without feature passing have none.
    """

    def __init__(self, network: nn.Module) -> None:
        self._found: dict[tuple[str, str], list[Tensor]] = {}
        for part in network.modules():
            if isinstance(part, MultiTaskModel):
                for key, site in part.sites.items():
                    part.passing[key].register_forward_pre_hook(partial(self._record, site))

    def _record(self, site: str, passing: nn.Module, maps: tuple[dict[str, Tensor], ...]) -> None:
        count = len(next(iter(maps[0].values())))
        for route, rates in passing.gates(*maps).items():  # type: ignore[operator]
            means = rates.flatten(1).float().mean(dim=1)  # (N,), or (1,) of a rate that is the same for all images
            self._found.setdefault((site, route), []).append(means.expand(count))

    def take(self, count: int) -> list[Rates]:
        """The rates of the ``count`` images since the last call; where there were several views, their means."""
        images: list[dict[str, Any]] = [{} for _ in range(count)]
        for (site, route), views in self._found.items():
            for image, rate in zip(images, torch.stack(views).mean(dim=0).tolist(), strict=True):
                image.setdefault(site, {})[route] = rate
        self._found.clear()
        return images
