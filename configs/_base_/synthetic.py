"""The synthetic set of ``make demo``: ISIC-2017's loaders with another folder."""

from mmengine.config import read_base

with read_base():
    from .isic2017 import *

train_dataloader.dataset.data_root = 'data/synthetic'
val_dataloader.dataset.data_root = 'data/synthetic'
test_dataloader.dataset.data_root = 'data/synthetic'
