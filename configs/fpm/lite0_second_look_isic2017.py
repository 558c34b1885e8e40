"""configs/multitask/lite0_isic2017.py, whose diagnosis looks once more, at the surroundings of the outlined lesion."""

from mmengine.config import read_base

with read_base():
    from ..multitask.lite0_isic2017 import *

model.type = 'SecondLook'
model.tasks.cls.head.in_channels = 2560  # 2 times the last block's
