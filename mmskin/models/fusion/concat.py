"""Inputs other than the image, next to the pooled features."""

from typing import Any

import torch
from torch import Tensor, nn

from mmskin.models.fusion.base import Fusion, Values
from mmskin.registry import MODELS

__all__ = ['ConcatFusion']


@MODELS.register_module()
class ConcatFusion(Fusion):
    """The branch's last map, pooled, and the inputs go through a hidden layer, whose result is added to the map.

    Concatenation as in https://doi.org/10.1111/exd.13777, with the sum around it (ours), so that the head keeps its
    width and the network starts as it is without inputs. An unknown input has a vector of its own, which is learnt.

    Args:
        hidden: Width of the layer.
        options: See ``Fusion``.
    """

    def __init__(self, *args: Any, hidden: int = 64, **options: Any) -> None:
        super().__init__(*args, **options)
        last = nn.Linear(hidden, self.in_channels)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(self.in_channels + self.width, hidden), nn.ReLU(), last)

    def on_maps(self, maps: Tensor, values: Values) -> Tensor:
        pooled = maps.mean(dim=(2, 3))  # (N, C)
        side_by_side = torch.cat([pooled, self.encode(values, maps).to(pooled.dtype)], dim=1)
        return maps + self.layers(side_by_side)[:, :, None, None]
