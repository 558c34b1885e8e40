"""The peer that ours is measured against: DeepLabV3+ of segmentation_models.pytorch (SMP) on EfficientNet-Lite0.

Its auxiliary head names the disease. Weights, images, size and tests are as in the lite0 configs; architecture, heads
and start are SMP's own, and the training is how one trains it with ordinary care. Needs mmskin[smp].
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
        type='SMPBackbone',
        architecture='DeepLabV3Plus',
        encoder='tu-tf_efficientnet_lite0',
        chain=dict(type='EfficientNetLite0Chain', weights='imagenet'),
        branches=dict(cls='encoder', seg='decoder'),
        options=dict(encoder_output_stride=16),
    ),
    tasks=dict(
        cls=dict(
            type='Classification',
            head=dict(type='SMPHead', kind='ClassificationHead', in_channels=320, options=dict(classes=3, dropout=0.2)),
            losses=dict(
                # 2000 / (3 x 374, 1372 and 254), the training split's melanomas, nevi and keratoses
                ce=dict(type='CrossEntropy', class_weight=[1.78, 0.49, 2.62], label_smoothing=0.05)
            ),
        ),
        seg=dict(
            type='Segmentation',
            head=dict(
                type='SMPHead',
                kind='SegmentationHead',
                in_channels=256,
                options=dict(out_channels=1, kernel_size=1, upsampling=4),
            ),
            losses=dict(bce=dict(type='torch.nn.BCEWithLogitsLoss'), dice=dict(type='DiceLoss')),
        ),
    ),
)

train_dataloader.dataset.pipeline[0].update(size=192, smallest_crop=0.7)  # what a zoom of 1.3 shows
val_dataloader.dataset.pipeline[0].size = 192
test_dataloader.dataset.pipeline[0].size = 192
train_dataloader.dataset.pipeline[2].update(crop=(1.0, 1.0), zoom=(0.7, 1.3))  # with flips and any rotation
train_dataloader.dataset.pipeline[3] = dict(  # in the noise's place
    type='mmpretrain.ColorJitter', brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02
)
train_dataloader.update(batch_size=32, num_workers=1, drop_last=True)
val_dataloader.num_workers = 1
test_dataloader.num_workers = 1

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.01),
)
custom_hooks = [dict(type='EpochSeed'), dict(type='ChannelsLast')]  # twice as fast on a CPU
tta = True  # with the four flips, the default
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=20)  # the last epoch's weights are tested
param_scheduler = [
    # torch's one cycle, in place of AdamW's rate: up from 6e-4 / 25 in 3 tenths of the run, then down to nothing
    dict(type='OneCycleLR', eta_max=6e-4, end=20, convert_to_iter_based=True)
]
