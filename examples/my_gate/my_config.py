"""The demo's network with the gate of this package."""

from mmengine.config import read_base

with read_base():
    from mmskin.configs.fpm.r18_synthetic import *

custom_imports = dict(imports=['my_gate'])
model.passing['layer3.1'].gate = dict(type='TemperatureGate', temperature=0.5)
