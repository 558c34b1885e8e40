"""configs/multitask/lite0_isic2017.py, whose diagnosis pools everywhere, on the outlined lesion, and at its border."""

from mmengine.config import read_base

with read_base():
    from ..multitask.lite0_isic2017 import *

model.type = 'MaskGuidedPooling'
model.tasks.cls.head.in_channels = 3840  # 3 times the last block's
