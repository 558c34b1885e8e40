"""The demo on ConvNeXt, with UPerNet as the segmentation's head: any network of timm by its name.

Cut and passing are at levels, and heads take their widths from the maps, so that another network is one line.
"""

from mmengine.config import read_base

with read_base():
    from .r18_synthetic import *

model.backbone = dict(
    type='SplitBackbone',
    chain=dict(type='TimmChain', model='convnext_tiny', weights=None),  # 'imagenet' downloads timm's
    split_after='/8',
    branches=dict(cls=dict(), seg=dict(out_blocks=('/4', '/8', '/16', '/32'))),
)
model.tasks.cls.head = dict(type='ClsHead')
model.tasks.seg.head = dict(type='mmseg.UPerHead', channels=64, num_classes=2, out_channels=1, threshold=0.5)
model.passing = {'/16': dict(type='GatedFeaturePassing')}
