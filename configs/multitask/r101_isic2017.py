"""configs/fpm/r101_isic2017.py without feature passing: the branches share only their first layers."""

from mmengine.config import read_base

with read_base():
    from ..fpm.r101_isic2017 import *

model.update(passing=None)
