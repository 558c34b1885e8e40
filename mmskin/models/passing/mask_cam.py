"""Handing a lesion's mask, or a class's activation map, to another branch."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mmskin.models.passing.adapter import resize
from mmskin.models.passing.concat_op import ConcatOp
from mmskin.models.passing.routed_passing import RoutedPassing
from mmskin.registry import MODELS

__all__ = ['MaskCAMPassing']


class MaskCAMRoute(nn.Module):
    """W [f ; s(w * f_j + b)], with as many maps from the source as ``num_maps``."""

    def __init__(self, source: int, target: int, num_maps: int, identity_init: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(source, num_maps, 1)
        self.op = ConcatOp(target, identity_init, message_channels=num_maps)

    def rates(self, source: Tensor, target: Tensor) -> Tensor:
        """The maps in (0, 1), (N, num_maps, h, w), at the source's resolution."""
        return self.head(source).sigmoid()

    def forward(self, source: Tensor, target: Tensor, feature: Tensor) -> Tensor:
        """``feature`` joined with the maps."""
        return self.op(feature, resize(self.rates(source, target), feature))


@MODELS.register_module()
class MaskCAMPassing(RoutedPassing):
    """f_i <- W [f_i ; M_j], M_j = s(w_j * f_j + b_j): a branch gets another's prediction as maps, not its features.

    After MB-DCNN (https://arxiv.org/abs/1903.03313), where classification reads the image with the lesion's mask, and
    segmentation its features with the class activation map. There mask and map come from networks that are trained
    before, at their output. Ours: they are predicted by a 1x1 convolution within the block, from features that are not
    final yet, and learn from the losses of the tasks that use them; s, a sigmoid, gives both the range of a mask; and
    W, 1x1, brings the result back to C channels.

    Args:
        in_channels: Channels that enter the block, by task.
        out_channels: Channels that leave the block, by task.
        routes: Pairs (source, target) of task names; by default every ordered pair.
        detach: Those of the routes through which no gradient flows back to the source.
        num_maps: Maps that a task hands on, by task; 1 for those left out, and e.g. ``dict(cls=3)`` for the activation
            map of each class.
        identity_init: Start from f alone: W begins as [I ; 0].

    Raises:
        ValueError: if ``num_maps`` names an unknown task.
    """

    quantity = 'the map that the target reads: 1 is inside, 0 outside; it does not say how much passes'

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: Mapping[str, int],
        routes: Iterable[tuple[str, str]] | None = None,
        detach: Iterable[tuple[str, str]] = (),
        num_maps: Mapping[str, int] | None = None,
        identity_init: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, routes, detach)
        num_maps = num_maps or {}
        if unknown := num_maps.keys() - {*in_channels}:
            raise ValueError(f'num_maps names {", ".join(sorted(unknown))}; the tasks are {", ".join(in_channels)}')
        for name, (source, target) in self.ends.items():
            widths = out_channels[source], out_channels[target]
            self.routes[name] = MaskCAMRoute(*widths, num_maps.get(source, 1), identity_init)
