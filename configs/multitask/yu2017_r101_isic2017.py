"""Segment, crop, classify: Yu et al., https://doi.org/10.1109/TMI.2016.2642839, on the paper's base networks.

As in their paper, a residual network outlines the lesion, and a second one sees the image cropped to it. Here these are
DeepLab-ResNet101 and ResNet-101 with the epochs and rates of configs/segmentation/deeplab_r101_isic2017.py and
configs/classification/r101_isic2017.py; Yu et al. use a fully convolutional network, and an SVM as well as softmax.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.r101_isic2017 import *

model.update(type='CropToLesion', passing=None)
model.backbone.update(split_after=None)

stages = [
    dict(name='seg', model=dict(active_tasks=['seg']), train_cfg=dict(max_epochs=195)),
    dict(stages[0], model=dict(active_tasks=['cls'], frozen=['seg'])),
    dict(name='long', model=dict(active_tasks=['cls'], frozen=['seg'])),
]
