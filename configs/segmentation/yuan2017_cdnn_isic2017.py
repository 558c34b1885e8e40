"""Table 3's challenge winner, by Yuan and Lo: convolutions and deconvolutions, https://arxiv.org/abs/1709.09780.

As in their paper: the seven input channels, network, loss, Adam at 0.003, batches of 16 and 500 epochs. As in our other
rows: 233x233 pixels (theirs: 192x256), the augmentation, and one network (theirs: the mean of six).
"""

from mmengine.config import read_base

with read_base():
    from .._base_.isic2017 import *
    from .._base_.runtime import *

model = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3),  # to 0 ... 1
    backbone=dict(type='SplitBackbone', chain=dict(type='CDNNChain'), split_after=None, branches=dict(seg=dict())),
    tasks=dict(
        seg=dict(
            type='Segmentation',
            head=dict(type='ASPPHead', in_channels=16, rates=(1,)),  # one 3x3 convolution, the output layer
            losses=dict(jaccard=dict(type='JaccardLoss')),
        )
    ),
)

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=0.003))
train_cfg = dict(by_epoch=True, max_epochs=500, val_interval=10)
param_scheduler = None
