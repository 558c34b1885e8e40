"""The demo with a network of its own for each task: ConvNeXt diagnoses, SegFormer's MiT-B0 outlines, and both pass."""

from mmengine.config import read_base

with read_base():
    from .r18_synthetic import *

mit = dict(type='mmseg.MixVisionTransformer', embed_dims=32, num_heads=[1, 2, 5, 8], num_layers=[2, 2, 2, 2])
model.backbone = dict(
    type='SplitBackbone',
    branches=dict(
        cls=dict(chain=dict(type='TimmChain', model='convnext_atto')),
        seg=dict(chain=dict(type='MMChain', backbone=mit), out_blocks=('/4', '/8', '/16', '/32')),
    ),
)
model.tasks.cls.head = dict(type='ClsHead')
model.tasks.seg.head = dict(type='mmseg.SegformerHead', channels=64, num_classes=2, out_channels=1, threshold=0.5)
model.passing = {'/8': dict(type='CrossStitchPassing'), '/16': dict(type='GatedFeaturePassing')}
stages = None  # no branch could start from the other's weights
