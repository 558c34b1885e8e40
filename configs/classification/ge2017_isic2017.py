"""Bilinear pooling of local and global features: Ge et al., https://doi.org/10.1109/ISBI.2017.7950681.

As in their paper: two networks, VGG16's last map pooled bilinearly and ResNet's averaged. Ours: ResNet is the paper's
ResNet-101, both networks train together with the schedule of configs/classification/r101_isic2017.py, and the new
layer, whose input has length 1, has a rate of its own.
"""

from mmengine.config import read_base

with read_base():
    from .r101_isic2017 import *

model.backbone = dict(
    type='ParallelBackbone',
    branches=dict(  # offline: weights=None for both
        cls=dict(
            resnet=dict(type='TimmChain', model='resnet101', weights='torchvision://resnet101'),
            vgg=dict(type='VGGChain', depth=16, weights='torchvision://vgg16', last_pool=False),
        )
    ),
)
model.tasks.cls.head = dict(type='BilinearHead', in_channels=(2048, 512))
optim_wrapper.paramwise_cfg = dict(custom_keys={'tasks.cls.head': dict(lr_mult=100.0)})
