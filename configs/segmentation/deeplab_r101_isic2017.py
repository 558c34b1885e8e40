"""Table 1's and table 3's base for segmentation: DeepLab-ResNet101, configs/fpm/r101_isic2017.py without the diagnosis.

https://arxiv.org/abs/1606.00915: stride 16, parallel dilated convolutions. Epochs (150 and 45) and rate are those with
which the multi-task network trains its segmentation. The paper does not say how it trained its own base.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.r101_isic2017 import *

model.update(passing=None)
model.tasks.pop('cls')
model.backbone.branches.pop('cls')
train_cfg.update(max_epochs=195)
stages = []
