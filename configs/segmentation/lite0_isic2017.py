"""configs/fpm/lite0_isic2017.py for the outline alone.

Network, augmentation and rates are the same. The epochs are 10 and 18, as many as the multi-task network's 7, 3 and 18.
There the first 7 train the shared part on the diagnosis, here on the outline.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.lite0_isic2017 import *

model.update(passing=None)
model.tasks.pop('cls')
model.backbone.branches.pop('cls')
train_cfg.update(max_epochs=10)
param_scheduler[1].update(T_max=10, end=10)
stages = [dict(name='seg', custom_hooks=custom_hooks[:2]), stages[2]]  # averages as the joint network does
