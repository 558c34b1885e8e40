"""Table 3's U-Net (https://arxiv.org/abs/1505.04597), mmseg's, from random weights like the original.

The paper does not describe its training; here it has DeepLab's 195 epochs and eq. 3, and a rate for a new network.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.isic2017 import *
    from .._base_.runtime import *

model = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        type='SplitBackbone',
        chain=dict(type='UNetChain', base_channels=64),
        split_after=None,
        branches=dict(seg=dict()),
    ),
    tasks=dict(
        seg=dict(
            type='Segmentation',
            head=dict(
                type='mmseg.FCNHead',  # without convolutions: only the U-Net's last 1x1
                in_channels=64,
                channels=64,
                num_convs=0,
                concat_input=False,
                dropout_ratio=0,
                num_classes=2,
                out_channels=1,
                threshold=0.5,
            ),
            losses=dict(wce=dict(type='WeightedCrossEntropy')),
        )
    ),
)

# The original's momentum of 0.99 is for batches of one image.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4))
train_cfg = dict(by_epoch=True, max_epochs=195, val_interval=5)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-5, end=195)]
