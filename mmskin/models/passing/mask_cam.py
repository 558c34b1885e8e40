"""Handing a lesion's mask, or a class's activation map, to another branch."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import Maps, RoutedPassing, resize
from mmskin.models.passing.ops import ConcatOp
from mmskin.registry import MODELS


class MaskCAMRoute(nn.Module):
    """W [f ; s(w * f_j + b)], with ``num_maps`` maps from the source."""

    def __init__(self, source: int, target: int, num_maps: int, identity_init: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(source, num_maps, 1)
        self.op = ConcatOp(target, identity_init, message_channels=num_maps)

    def rates(self, source: Maps, target: Maps) -> Tensor:
        """The maps in (0, 1), (N, num_maps, h, w), at the source's resolution."""
        return self.head(source.f).sigmoid()

    def forward(self, source: Maps, target: Maps, feature: Tensor) -> Tensor:
        return self.op(feature, resize(self.rates(source, target), feature))


@MODELS.register_module()
class MaskCAMPassing(RoutedPassing):
    """f_i <- W [f_i ; M_j], M_j = s(w_j * f_j + b_j): a branch gets another's prediction as maps, not its features.

    After MB-DCNN (https://arxiv.org/abs/1903.03313), where classification reads the image with the lesion's mask, and
    segmentation its features with the class activation map; there, mask and map are the outputs of networks trained
    beforehand. Ours: a 1x1 convolution inside the block predicts them, from features that are not final yet, and learns
    from the losses of the tasks that use them; s, a sigmoid, gives both the range of a mask; and W, 1x1, brings the
    result back to C channels.

    Args:
        num_maps: Maps that a task hands on, by task; 1 for those left out, and e.g. ``dict(cls=3)`` for the activation
            map of each class.
        options: See ``FeaturePassing``; it starts from the identity by W = [I ; 0].

    Raises:
        Mistake: if ``num_maps`` names an unknown task.
    """

    quantity = 'the map that the target reads: 1 is inside, 0 outside; it does not say how much passes'

    def __init__(self, *args: Any, num_maps: Mapping[str, int] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        num_maps, out = num_maps or {}, self.out_channels
        if unknown := num_maps.keys() - {*out}:
            raise Mistake(f'num_maps names {", ".join(sorted(unknown))}; the tasks are {", ".join(out)}')
        for name, (source, target) in self.ends.items():
            self.routes[name] = MaskCAMRoute(out[source], out[target], num_maps.get(source, 1), self.identity_init)
