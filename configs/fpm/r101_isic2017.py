"""The paper's network with the paper's values: ResNet-101, 233x233, batches of 16, three stages by SGD.

https://ieeexplore.ieee.org/document/8462594 section 3.1. "silent" marks what the paper does not say.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.isic2017 import *
    from .._base_.runtime import *

model = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(  # ImageNet's, as for the weights
        type='mmengine.ImgDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        type='SplitBackbone',
        chain=dict(
            type='TimmChain', model='resnet101', weights='torchvision://resnet101'
        ),  # silent: ImageNet's; offline: None
        split_after='layer3.10',  # printed as "conv4_100"; conv4_10 is the likely reading
        branches=dict(cls=dict(), seg=dict(output_stride=16)),  # silent; 8 would cost half as much again
    ),
    tasks=dict(
        cls=dict(
            type='Classification',
            head=dict(type='ClsHead', in_channels=2048, num_classes=3),
            losses=dict(ce=dict(type='CrossEntropy')),
        ),
        seg=dict(
            type='Segmentation',
            head=dict(type='ASPPHead', in_channels=2048, rates=(6, 12, 18, 24)),  # silent: DeepLab v2's
            losses=dict(wce=dict(type='WeightedCrossEntropy')),  # eq. 3's sum over pixels, divided by their number
        ),
    ),
    passing={
        'layer3.22': dict(  # conv4_22
            type='GatedFeaturePassing',
            routes=[('cls', 'seg'), ('seg', 'cls')],
            gate=dict(type='ElementwiseGate', kernel_size=1),  # silent
            message=dict(type='ConvMessage', kernel_size=1),  # silent
            op=dict(type='SumOp', identity_init=False),  # eq. 4 as printed; scales from 0 learn too slowly
        )
    },
)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=1e-4, momentum=0.9, weight_decay=5e-4),  # silent but for the rate: DeepLab's values
)
train_cfg = dict(by_epoch=True, max_epochs=45, val_interval=5)
param_scheduler = None  # the paper names one rate per stage

stages = [
    dict(
        name='cls',
        model=dict(active_tasks=['cls'], use_passing=False),
        optim_wrapper=dict(optimizer=dict(lr=1e-5)),
        train_cfg=dict(max_epochs=80),
    ),
    dict(
        name='seg',
        model=dict(active_tasks=['seg'], frozen=['shared'], use_passing=False),
        custom_hooks=[*custom_hooks, dict(type='CopyBranch', source='cls', target='seg')],
        train_cfg=dict(max_epochs=150),
    ),
    dict(name='joint'),
]
