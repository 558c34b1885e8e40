"""Feature-wise linear modulation of one branch by another."""

from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn

from mmskin.models.passing.base import Maps, Route, RoutedPassing, resize
from mmskin.registry import MODELS

__all__ = ['FiLMPassing']


class FiLMRoute(nn.Module):
    """(1 + g(c)) (.) f + b(c), with g and b linear in the context c."""

    def __init__(self, context: int, target: int, identity_init: bool) -> None:
        super().__init__()
        self.film = nn.Conv2d(context, 2 * target, 1)
        if identity_init:
            for parameter in self.film.parameters():
                nn.init.zeros_(parameter)

    def context(self, source: Maps, target: Maps) -> Tensor:
        """The source's map, averaged: (N, C, 1, 1)."""
        return source.f.mean(dim=(2, 3), keepdim=True)

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        gamma, beta = self.film(self.context(source, target)).chunk(2, dim=1)
        return (1 + gamma) * feature + beta


class MaskFiLMRoute(FiLMRoute):
    """The same with the target's own map as context, averaged under a mask that is predicted from the source."""

    def __init__(self, source: int, target: int, identity_init: bool) -> None:
        super().__init__(target, target, identity_init)
        self.mask = nn.Conv2d(source, 1, 1)

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """The mask in (0, 1), (N, 1, h, w), at the source's resolution."""
        return self.mask(source.f).sigmoid()

    def context(self, source: Maps, target: Maps) -> Tensor:
        """The target's map, averaged under the mask: (N, C, 1, 1)."""
        mask = resize(self.rates(source, target), target.f)
        total, area = (part.sum(dim=(2, 3), keepdim=True) for part in (mask * target.f, mask))
        return total / area.clamp_min(1e-6)  # a mask may be empty throughout


@MODELS.register_module()
class FiLMPassing(RoutedPassing):
    """f_i <- g(c_j) (.) f_i + b(c_j), a scale and a shift per channel that follow from c_j, f_j averaged over the map.

    FiLM (https://arxiv.org/abs/1709.07871, eq. 1 and 2), where c is an encoded question; there, too, g = 1 + W c + b is
    learned as its distance from 1. Ours: c_j is another branch's map, and there is a way back from a branch that
    outlines the lesion to one that does not. Then c is the target's own map averaged under a mask, s(w * f_j + b), so
    that the look of the lesion modulates the whole.

    Args:
        masks: Tasks that outline something: routes that start there average under a mask. By default 'seg', if there
            is such a task.
        options: See ``FeaturePassing``; it starts from the identity by g = 1 and b = 0.

    Raises:
        ValueError: if ``masks`` names an unknown task.
    """

    quantity = (
        "the mask under which the target's map is averaged: 1 is inside, 0 outside; it does not say how much passes"
    )

    def __init__(self, *args: Any, masks: Iterable[str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        self.masks = {'seg'} & {*out} if masks is None else {*masks}
        if unknown := self.masks - {*out}:
            raise ValueError(f'masks names {", ".join(sorted(unknown))}; the tasks are {", ".join(out)}')
        for name, (source, target) in self.ends.items():
            route = MaskFiLMRoute if source in self.masks else FiLMRoute
            self.routes[name] = route(out[source], out[target], self.identity_init)

    def gated(self, tasks: Collection[str]) -> dict[str, Route]:
        """The running routes that average under a mask, by name."""
        return {name: ends for name, ends in self.running(tasks).items() if ends[0] in self.masks}
