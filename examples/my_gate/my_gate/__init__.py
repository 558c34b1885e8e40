"""A gate for mmskin, in a package of its own."""

import torch
from torch import Tensor, nn

from mmskin.registry import MODELS


@MODELS.register_module()
class TemperatureGate(nn.Module):
    """G = sigmoid((w * x + b) / T): a rate per channel and position that leans to 0 or 1 the more the lower T is.

    T is learnt, one number per route (the temperature of https://arxiv.org/abs/1503.02531).
    """

    def __init__(self, in_channels: int, out_channels: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    def forward(self, x: Tensor) -> Tensor:
        """Rates (N, out_channels, H, W) for x of (N, in_channels, H, W)."""
        return (self.conv(x) / self.log_temperature.exp()).sigmoid()
