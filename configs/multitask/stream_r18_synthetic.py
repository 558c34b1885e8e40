"""configs/multitask/r18_synthetic.py on a stream of tar shards without a length: trained by iterations."""

from mmengine.config import read_base

with read_base():
    from .r18_synthetic import *

train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        type='TarStream',
        data_root='data/synthetic',
        path='shards',
        metainfo=dict(classes=('melanoma', 'nevus', 'seborrheic_keratosis')),
        pipeline=train_dataloader.dataset.pipeline,
    ),
)
train_cfg = dict(by_epoch=False, max_iters=200, val_interval=100)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, T_max=200, eta_min=1e-5, end=200)]
default_hooks.checkpoint.update(by_epoch=False, interval=50)  # a kill costs at most as many steps
log_processor.by_epoch = False
stages = []
