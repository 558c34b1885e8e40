"""configs/fpm/r18_synthetic.py without feature passing: the branches share only their first layers."""

from mmengine.config import read_base

with read_base():
    from ..fpm.r18_synthetic import *

model.update(passing=None)
