"""What every gate keeps to, and what this one gives."""

import my_gate  # noqa: F401 (registers the gate)
import torch

from mmskin.registry import MODELS
from mmskin.testing import GateContract


class TestTemperatureGate(GateContract):
    """Shapes, rates, gradients, mixed precision: mmskin's own tests of its gates."""

    cfg = dict(type='TemperatureGate', temperature=0.5)


def test_a_low_temperature_decides():
    """With w x + b = 1 the rate is sigmoid(1 / T), 0.8808 at one half and 0.5250 at ten."""
    for temperature, rate in ((0.5, 0.8808), (10.0, 0.5250)):
        gate = MODELS.build(dict(type='TemperatureGate', in_channels=1, out_channels=1, temperature=temperature))
        torch.nn.init.ones_(gate.conv.weight)
        torch.nn.init.zeros_(gate.conv.bias)
        torch.testing.assert_close(gate(torch.ones(1, 1, 1, 1)).item(), rate, atol=1e-4, rtol=0)
