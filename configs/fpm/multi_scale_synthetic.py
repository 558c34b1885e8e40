"""The demo with passing at three scales at once, in front of the decoder, as MTI-Net has it.

At each level messages know what the tasks told each other at the coarser one. The diagnosis reads the coarsest map
alone, so at the finer ones it gives and does not receive.
"""

from mmengine.config import read_base

with read_base():
    from .r18_synthetic import *

levels = ('/8', '/16', '/32')
model.backbone.split_after = '/4'
model.backbone.branches = dict(cls=dict(out_blocks=levels), seg=dict(out_blocks=levels))
model.tasks.cls.head = dict(type='ClsHead')
model.tasks.seg.head = dict(type='UNetHead', channels=64)
model.passing = {('decoder/8', 'decoder/16', 'decoder/32'): dict(type='MultiScalePassing')}
