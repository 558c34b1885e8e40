"""Feature-wise linear modulation by inputs other than the image."""

from typing import Any

from torch import Tensor, nn

from mmskin.models.fusion.base import Fusion, Values
from mmskin.registry import MODELS

__all__ = ['FiLMFusion']


@MODELS.register_module()
class FiLMFusion(Fusion):
    """The inputs scale and shift each channel of the branch's last map (https://arxiv.org/abs/1709.07871, eq. 1).

    It starts from the map as it is. An unknown input has a vector of its own, which is learnt.

    Args:
        hidden: Width of the layer between.
        options: See ``Fusion``.
    """

    def __init__(self, *args: Any, hidden: int = 32, **options: Any) -> None:
        super().__init__(*args, **options)
        last = nn.Linear(hidden, 2 * self.in_channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(self.width, hidden), nn.ReLU(), last)

    def on_maps(self, maps: Tensor, values: Values) -> Tensor:
        scale, shift = self.layers(self.encode(values, maps))[:, :, None, None].chunk(2, dim=1)
        return maps * (1 + scale) + shift
