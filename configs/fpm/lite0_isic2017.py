"""The paper's network on EfficientNet-Lite0, with a schedule for two CPU cores.

Cut and passing site are where the paper has them in ResNet-101: inside and at the end of the stage of stride 16.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.isic2017 import *
    from .._base_.runtime import *

model = dict(
    type='MultiTaskModel',
    data_preprocessor=dict(
        type='mmengine.ImgDataPreprocessor', mean=[127.0] * 3, std=[128.0] * 3
    ),  # as its weights were trained with
    backbone=dict(
        type='SplitBackbone',
        chain=dict(type='EfficientNetLite0Chain', weights='imagenet'),
        split_after='blocks.3.2',
        branches=dict(
            cls=dict(),
            seg=dict(output_stride=16, out_blocks=('blocks.1.1', 'blocks.6.0')),
        ),
    ),
    tasks=dict(
        cls=dict(
            type='Classification',
            head=dict(type='ClsHead', in_channels=1280, dropout=0.2),
            losses=dict(ce=dict(type='CrossEntropy', label_smoothing=0.05)),
        ),
        seg=dict(
            type='Segmentation',
            head=dict(
                type='mmseg.DepthwiseSeparableASPPHead',  # DeepLab v3+: edges from the shared map of stride 4
                in_index=1,
                in_channels=320,
                channels=64,  # DeepLab v3+ has 256, which here would cost more than the whole backbone
                c1_in_channels=24,
                c1_channels=24,
                dilations=(1, 3, 6, 9),  # half of DeepLab's: a 192-pixel image has 12 x 12 cells at stride 16
                num_classes=2,
                out_channels=1,
                threshold=0.5,
                norm_cfg=dict(type='BN'),
            ),
            losses=dict(bce=dict(type='torch.nn.BCEWithLogitsLoss'), dice=dict(type='DiceLoss')),
        ),
    ),
    passing={'blocks.4.2': dict(type='GatedFeaturePassing')},
)

# costs two thirds of the paper's 233 pixels; testing at 224 or 256 was worse
train_dataloader.dataset.pipeline[0].size = 192
val_dataloader.dataset.pipeline[0].size = 192
test_dataloader.dataset.pipeline[0].size = 192
train_dataloader.dataset.pipeline[2].update(crop=(0.7, 1.0), zoom=(0.8, 1.2))
train_dataloader.dataset.pipeline.insert(
    3, dict(type='ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02)
)
train_dataloader.update(batch_size=32, num_workers=1, drop_last=True)
val_dataloader.num_workers = 1
test_dataloader.num_workers = 1

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.02),
    clip_grad=dict(max_norm=5.0),
)
custom_hooks = [
    dict(type='EpochSeed'),
    dict(type='ChannelsLast'),  # twice as fast on a CPU
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.01, update_buffers=True),
]
tta_model = dict(zooms=(1.0, 1.15))  # eight views with the flips, slightly better than the flips alone
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=60),
    dict(type='CosineAnnealingLR', T_max=3, eta_min=1e-5, end=3, convert_to_iter_based=True),
]

stages = [
    dict(
        name='cls',
        model=dict(active_tasks=['cls'], use_passing=False),
        train_cfg=dict(max_epochs=7),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=60),
            dict(type='CosineAnnealingLR', T_max=7, eta_min=1e-5, end=7, convert_to_iter_based=True),
        ],
    ),
    dict(
        name='seg',
        model=dict(active_tasks=['seg'], frozen=['shared'], use_passing=False),
        # no averaging here: the average would lag behind a head that starts from random weights
        custom_hooks=[*custom_hooks[:2], dict(type='CopyBranch', source='cls', target='seg')],
    ),
    dict(
        name='joint',
        model=dict(frozen=['backbone.shared.stem', 'backbone.shared.blocks.0', 'backbone.shared.blocks.1']),
        optim_wrapper=dict(optimizer=dict(lr=5e-4)),
        train_cfg=dict(max_epochs=18),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=60),
            dict(type='CosineAnnealingLR', T_max=18, eta_min=1e-5, end=18, convert_to_iter_based=True),
        ],
    ),
]
