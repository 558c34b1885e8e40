"""Feature-wise linear modulation of one branch by another."""

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor, nn

from mmskin.models.passing.adapter import resize
from mmskin.models.passing.routed_passing import RoutedPassing
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

    def context(self, source: Tensor, target: Tensor) -> Tensor:
        """The source's map, averaged: (N, C, 1, 1)."""
        return source.mean(dim=(2, 3), keepdim=True)

    def forward(self, source: Tensor, target: Tensor, feature: Tensor) -> Tensor:
        """``feature``, modulated."""
        gamma, beta = self.film(self.context(source, target)).chunk(2, dim=1)
        return (1 + gamma) * feature + beta


class MaskFiLMRoute(FiLMRoute):
    """The same with the target's own map as context, averaged under a mask that is predicted from the source."""

    def __init__(self, source: int, target: int, identity_init: bool) -> None:
        super().__init__(target, target, identity_init)
        self.mask = nn.Conv2d(source, 1, 1)

    def rates(self, source: Tensor, target: Tensor) -> Tensor:
        """The mask in (0, 1), (N, 1, h, w), at the source's resolution."""
        return self.mask(source).sigmoid()

    def context(self, source: Tensor, target: Tensor) -> Tensor:
        """The target's map, averaged under the mask: (N, C, 1, 1)."""
        mask = resize(self.rates(source, target), target)
        total, area = (part.sum(dim=(2, 3), keepdim=True) for part in (mask * target, mask))
        return total / area.clamp_min(1e-6)  # a mask that is empty throughout


@MODELS.register_module()
class FiLMPassing(RoutedPassing):
    """f_i <- g(c_j) (.) f_i + b(c_j), a scale and a shift per channel that follow from c_j, f_j averaged over the map.

    FiLM (https://arxiv.org/abs/1709.07871, eq. 1 and 2), where c is an encoded question. g = 1 + W c + b is learnt as
    its distance from 1 there as well. What is ours: that c_j is another branch's map, and the way back from a branch
    that outlines the lesion to one that does not: c is then the target's own map averaged under a mask, s(w * f_j + b),
    so that what a lesion looks like modulates the whole.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        masks: Tasks that outline something: routes that start there average under a mask. By default 'seg', if there
            is such a task.
        identity_init: Start from f alone, with g = 1 and b = 0.

    Raises:
        ValueError: if ``masks`` names an unknown task.
    """

    quantity = (
        "the mask under which the target's map is averaged: 1 is inside, 0 outside; it does not say how much passes"
    )

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        masks: Iterable[str] | None = None,
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        self.masks = {'seg'} & {*in_channels} if masks is None else {*masks}
        if unknown := self.masks - {*in_channels}:
            raise ValueError(f'masks names {", ".join(sorted(unknown))}; the tasks are {", ".join(in_channels)}')
        for name, (source, target) in self.ends.items():
            route = MaskFiLMRoute if source in self.masks else FiLMRoute
            self.routes[name] = route(out_channels[source], out_channels[target], identity_init)

    def gated(self, tasks: Collection[str]) -> dict[str, tuple[str, str]]:
        """The running routes that average under a mask, by name."""
        return {name: ends for name, ends in self.running(tasks).items() if ends[0] in self.masks}
