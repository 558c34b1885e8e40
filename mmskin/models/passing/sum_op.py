"""Joining a message by a sum."""

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS

__all__ = ['SumOp']


@MODELS.register_module()
class SumOp(nn.Module):
    """f + s (G m): the ``op`` that the paper uses.

    Eq. 4 and 5 of https://doi.org/10.1109/ISBI.2018.8363769.

    Args:
        channels: Of feature and message.
        identity_init: Start from f alone, so that joining two trained branches changes neither: s is a scale per
            channel that starts at 0. It is ours; a zero message could not learn, since ReLU has no gradient at 0.
            Without it there is no s, and eq. 4 stands as it is printed.
    """

    def __init__(self, channels: int, identity_init: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(channels, 1, 1)) if identity_init else None

    def forward(self, feature: Tensor, message: Tensor) -> Tensor:
        """Join two maps of (N, C, H, W)."""
        return feature + (message if self.scale is None else self.scale * message)
