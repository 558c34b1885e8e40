"""Table 1's and table 3's base for segmentation: DeepLab-ResNet101, configs/fpm/r101_isic2017.py without the diagnosis.

https://arxiv.org/abs/1606.00915: stride 16, parallel dilated convolutions. The epochs are the 150 and 45 in which the
multi-task network trains its segmentation, at their rate. What the paper gave its own base it does not say.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.r101_isic2017 import *

model.update(passing=None)
model.tasks.pop('cls')
model.backbone.branches.pop('cls')
train_cfg.update(max_epochs=195)
stages = []
