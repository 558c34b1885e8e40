"""Feature-wise linear modulation of one branch by another."""

from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import Maps, Route, RoutedPassing, resize
from mmskin.registry import MODELS


class FiLMRoute(nn.Module):
    """(1 + g(c)) (.) f + b(c), g and b linear in c: the source's mean, or the target's under a mask from the source."""

    def __init__(self, source: int, target: int, masked: bool, identity_init: bool) -> None:
        super().__init__()
        self.film = nn.Conv2d(target if masked else source, 2 * target, 1)
        if identity_init:
            for parameter in self.film.parameters():
                nn.init.zeros_(parameter)
        self.mask = nn.Conv2d(source, 1, 1) if masked else None

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """The mask in (0, 1), (N, 1, h, w), at the source's resolution."""
        assert self.mask is not None
        return self.mask(source.f).sigmoid()

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        if self.mask is None:
            context = source.f.mean(dim=(2, 3), keepdim=True)
        else:
            mask = resize(self.rates(source, target), target.f)
            total, area = (part.sum(dim=(2, 3), keepdim=True) for part in (mask * target.f, mask))
            context = total / area.clamp_min(1e-6)  # a mask may be empty throughout
        gamma, beta = self.film(context).chunk(2, dim=1)  # (N, C, 1, 1)
        return (1 + gamma) * feature + beta


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
        Mistake: if ``masks`` names an unknown task.
    """

    quantity = (
        "the mask under which the target's map is averaged: 1 is inside, 0 outside; it does not say how much passes"
    )

    def __init__(self, *args: Any, masks: Iterable[str] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        out = self.out_channels
        self.masks = {'seg'} & {*out} if masks is None else {*masks}
        if unknown := self.masks - {*out}:
            raise Mistake(f'masks names {", ".join(sorted(unknown))}; the tasks are {", ".join(out)}')
        for name, (source, target) in self.ends.items():
            self.routes[name] = FiLMRoute(out[source], out[target], source in self.masks, self.identity_init)

    def gated(self, tasks: Collection[str]) -> dict[str, Route]:
        """The running routes that average under a mask, by name."""
        return {name: ends for name, ends in self.running(tasks).items() if ends[0] in self.masks}
