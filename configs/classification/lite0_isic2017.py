"""configs/fpm/lite0_isic2017.py for the diagnosis alone.

Network, augmentation and rates are the same. The epochs are the 7 and 18 in which the multi-task network trains its
diagnosis; in the 3 between, only its segmentation branch learns.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.lite0_isic2017 import *

model.update(passing=None)
model.tasks.pop('seg')
model.backbone.branches.pop('seg')
stages = [stages[0], stages[2]]
