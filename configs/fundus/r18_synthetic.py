"""Grades of a retinopathy and the vessels, on synthetic photographs: nothing in it is of skin.

The grades are in order, and each pixel is background, artery or vein. The two branches pass each other features.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.fundus import *
    from .._base_.runtime import *

model = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(type='mmengine.ImgDataPreprocessor', mean=[127.0] * 3, std=[64.0] * 3),
    backbone=dict(
        type='SplitBackbone',
        chain=dict(type='TimmChain', model='resnet18', weights=None),
        split_after='layer1.1',
        branches=dict(grade=dict(), vessels=dict(output_stride=8)),
    ),
    tasks=dict(
        grade=dict(
            type='OrdinalClassification',
            target='gt_grade',
            head=dict(type='ClsHead', in_channels=512, num_classes=3),  # "above 0", "above 1", "above 2"
            losses=dict(bce=dict(type='torch.nn.BCEWithLogitsLoss')),
        ),
        vessels=dict(
            type='MultiClassSegmentation',
            target='gt_vessels',
            head=dict(type='ASPPHead', in_channels=512, out_channels=3, rates=(1, 2, 3, 4)),
            losses=dict(ce=dict(type='CrossEntropy', class_weight=(1.0, 5.0, 5.0))),  # vessels are few pixels
        ),
    ),
    passing={'layer3.1': dict(type='GatedFeaturePassing')},
)
val_evaluator = [
    dict(type='OrdinalMetric', task='grade'),
    dict(type='SegmentationMetric', task='vessels'),
]
test_evaluator = [*val_evaluator, dict(type='ContourSheet', out_file='cases.png')]

optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.02))
custom_hooks = [*custom_hooks, dict(type='ChannelsLast')]
train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=12)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=12, eta_min=1e-5, end=12, convert_to_iter_based=True)]
