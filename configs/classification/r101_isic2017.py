"""The base of tables 1 and 2: ResNet-101, configs/fpm/r101_isic2017.py for the diagnosis alone.

Network, rates and epochs (80 and 45) are those with which the multi-task network trains its diagnosis, so that the two
differ only in their tasks. The paper does not say how it trained its own base.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.r101_isic2017 import *

model.update(passing=None)
model.tasks.pop('seg')
model.backbone.branches.pop('seg')
stages = [stages[0], dict(name='joint')]
