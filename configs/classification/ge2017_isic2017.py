"""Bilinear pooling of local and global features: Ge et al., https://doi.org/10.1109/ISBI.2017.7950681.

Theirs are the two networks and their roles: VGG16's last map, bilinearly pooled, and ResNet's average. Here ResNet is
the paper's ResNet-101, both networks train together, and the schedule is configs/classification/r101_isic2017.py's.
Ours is also the rate of the new layer, which starts on features of length 1.
"""

from mmengine.config import read_base

with read_base():
    from .r101_isic2017 import *

model.backbone = dict(
    type='ParallelBackbone',
    branches=dict(  # offline: weights=None for both
        cls=dict(
            resnet=dict(type='ResNetChain', depth=101, weights='torchvision://resnet101'),
            vgg=dict(type='VGGChain', depth=16, weights='torchvision://vgg16', last_pool=False),
        )
    ),
)
model.tasks.cls.head = dict(type='BilinearHead', in_channels=(2048, 512))
optim_wrapper.paramwise_cfg = dict(custom_keys={'tasks.cls.head': dict(lr_mult=100.0)})
