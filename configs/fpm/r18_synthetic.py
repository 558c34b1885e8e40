"""The demo: ResNet-18 from random weights on synthetic lesions, in a few minutes on two CPU cores."""

from mmengine.config import read_base

with read_base():
    from .._base_.runtime import *
    from .._base_.synthetic import *

model = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    backbone=dict(
        type='SplitBackbone',
        chain=dict(type='TimmChain', model='resnet18', weights=None),
        split_after='layer2.1',
        branches=dict(cls=dict(), seg=dict(output_stride=16)),
    ),
    tasks=dict(
        cls=dict(
            type='Classification',
            head=dict(type='ClsHead', in_channels=512),
            losses=dict(ce=dict(type='CrossEntropy')),
        ),
        seg=dict(
            type='Segmentation',
            head=dict(type='ASPPHead', in_channels=512, rates=(1, 2, 3, 4)),  # the map has 7 x 7 cells
            losses=dict(wce=dict(type='WeightedCrossEntropy'), dice=dict(type='DiceLoss')),
        ),
    ),
    passing={'layer3.1': dict(type='GatedFeaturePassing')},
)

train_dataloader.dataset.pipeline[0].size = 112
val_dataloader.dataset.pipeline[0].size = 112
test_dataloader.dataset.pipeline[0].size = 112
train_dataloader.update(batch_size=16, num_workers=1, drop_last=True)
val_dataloader.num_workers = 1
test_dataloader.num_workers = 1

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.02))
custom_hooks = [*custom_hooks, dict(type='ChannelsLast')]
train_cfg = dict(by_epoch=True, max_epochs=4, val_interval=4)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=4, eta_min=1e-5, end=4, convert_to_iter_based=True)]

keep_stages = False  # saves disk space
stages = [
    dict(
        name='cls',
        model=dict(active_tasks=['cls'], use_passing=False),
        train_cfg=dict(max_epochs=6, val_interval=6),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=6, eta_min=1e-5, end=6, convert_to_iter_based=True)],
    ),
    dict(
        name='seg',
        model=dict(active_tasks=['seg'], frozen=['shared'], use_passing=False),
        custom_hooks=[*custom_hooks, dict(type='CopyBranch', source='cls', target='seg')],
    ),
    dict(name='joint', optim_wrapper=dict(optimizer=dict(lr=5e-4))),
]
