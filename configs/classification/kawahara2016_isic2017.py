"""A linear classifier on pretrained deep features: Kawahara et al., https://doi.org/10.1109/ISBI.2016.7493528.

As in their paper: AlexNet's frozen ImageNet features and logistic regression. Ours: the layer (fc6 of the whole image;
they pool over several scales), the penalty, and no augmentation. From random weights the row measures random features.
"""

from mmengine.config import read_base

with read_base():
    from .alexnet_isic2017 import *

model.frozen = ['backbone.branches.cls']
model.backbone.branches.cls = dict(out_blocks=('fc6',))
train_dataloader.dataset.pipeline = val_dataloader.dataset.pipeline
train_cfg = dict(
    type='LinearFitLoop',
    classifier=dict(type='sklearn.linear_model.LogisticRegression', C=1e-3, max_iter=1000),
    max_epochs=1,
)
stages = []
