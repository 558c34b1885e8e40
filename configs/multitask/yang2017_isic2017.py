"""A shared encoder with a branch per task: Yang et al., https://arxiv.org/abs/1703.01025.

As in their paper: one encoder that the tasks share, and a branch for each. They have a binary classifier for melanoma
and one for seborrheic keratosis; here one classifier has three classes, so that it is scored like the others. They cite
GoogLeNet and U-Net; we could not find out how they used them, so the design is ours, as are losses, augmentation and
schedule: the epochs of the paper's first and last stage (80 and 45) in one run.
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
        chain=dict(type='GoogLeNetChain', weights='torchvision://googlenet'),  # offline: weights=None
        split_after='inception5b',
        branches=dict(cls=dict(), seg=dict(out_blocks=('conv1', 'conv3', 'inception3b', 'inception4e', 'inception5b'))),
    ),
    tasks=dict(
        cls=dict(
            type='Classification',
            head=dict(type='ClsHead', in_channels=1024, dropout=0.2),  # GoogLeNet's own
            losses=dict(ce=dict(type='CrossEntropy')),
        ),
        seg=dict(
            type='Segmentation',
            head=dict(type='UNetHead', in_channels=(64, 192, 480, 832, 1024)),
            losses=dict(wce=dict(type='WeightedCrossEntropy'), dice=dict(type='DiceLoss')),
        ),
    ),
)

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, weight_decay=5e-4))
train_cfg = dict(by_epoch=True, max_epochs=125, val_interval=5)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=1e-5, end=125)]
