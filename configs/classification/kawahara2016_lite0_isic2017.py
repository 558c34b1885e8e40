"""configs/classification/kawahara2016_isic2017.py on the features of EfficientNet-Lite0, which come with pip."""

from mmengine.config import read_base

with read_base():
    from .lite0_isic2017 import *

model.frozen = ['shared', 'backbone.branches.cls']
train_dataloader.dataset.pipeline = val_dataloader.dataset.pipeline
train_dataloader.update(drop_last=False)
custom_hooks = [dict(type='EpochSeed'), dict(type='ChannelsLast')]
param_scheduler = None
train_cfg = dict(
    type='LinearFitLoop',
    classifier=dict(type='sklearn.linear_model.LogisticRegression', C=1e-3, max_iter=1000),
    max_epochs=1,
)
stages = []
