"""configs/multitask/yu2017_r101_isic2017.py on two EfficientNet-Lite0, which train for 20 epochs each."""

from mmengine.config import read_base

with read_base():
    from ..fpm.lite0_isic2017 import *

model.update(type='CropToLesion', passing=None)
model.backbone.update(split_after=None)
train_cfg.update(max_epochs=20)
param_scheduler[1].update(T_max=20, end=20)

stages = [
    dict(name='seg', model=dict(active_tasks=['seg'])),
    dict(name='cls', model=dict(active_tasks=['cls'], frozen=['seg'])),
]
