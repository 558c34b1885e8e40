"""The base of tables 1 and 2: ResNet-101, configs/fpm/r101_isic2017.py with nothing but the diagnosis to learn.

The network, the rates and the epochs (80 and 45) are those in which the multi-task network trains its diagnosis, so
that a difference between the two is not one of training. What the paper gave its own base it does not say.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.r101_isic2017 import *

model.update(passing=None)
model.tasks.pop('seg')
model.backbone.branches.pop('seg')
stages = [stages[0], dict(name='joint')]
