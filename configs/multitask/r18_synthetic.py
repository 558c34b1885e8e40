"""configs/fpm/r18_synthetic.py without feature passing: the branches share their beginning, and no more."""

from mmengine.config import read_base

with read_base():
    from ..fpm.r18_synthetic import *

model.update(passing=None)
