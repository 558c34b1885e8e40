"""How much the gates let through, noted while a network predicts."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.multitask import MultiTaskModel

__all__ = ['GateRates', 'noted_gates']

Rates = dict[str, dict[str, float]]


class GateRates:
    """The mean passing rates of the forward passes that were noted.

    They are means of ``MultiTaskModel.gates``, whose numbers the operator's ``quantity`` explains, over channels and
    positions, taken from the maps that pass by anyway: no forward pass of its own. Networks without
    feature passing have none.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Tensor]] = {}

    def note(self, site: str, passing: nn.Module, maps: tuple[dict[str, Tensor], ...]) -> None:
        """Note the rates of the operator at ``site`` as its maps come in."""
        count = len(next(iter(maps[0].values())))
        for route, rates in passing.gates(*maps).items():  # type: ignore[operator]
            means = rates.flatten(1).float().mean(dim=1)  # (N,), or (1,) of a rate that is the same for all images
            self._found.setdefault((site, route), []).append(means.expand(count))

    def by_image(self, count: int) -> list[Rates]:
        """The rates of each of the ``count`` images; where there were several views, their means."""
        images: list[dict[str, Any]] = [{} for _ in range(count)]
        for (site, route), views in self._found.items():
            for image, rate in zip(images, torch.stack(views).mean(dim=0).tolist(), strict=True):
                image.setdefault(site, {})[route] = rate
        return images


@contextmanager
def noted_gates(network: nn.Module) -> Iterator[GateRates]:
    """Inside the block, rates are noted; no other pass is, and one that was interrupted leaves nothing behind."""
    rates, hooks = GateRates(), []
    for part in network.modules():
        if isinstance(part, MultiTaskModel):
            for key, site in part.sites.items():
                hooks.append(part.passing[key].register_forward_pre_hook(partial(rates.note, site)))
    try:
        yield rates
    finally:
        for hook in hooks:
            hook.remove()
