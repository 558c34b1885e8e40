"""configs/segmentation/lite0_isic2017.py with the Jaccard-distance loss alone (https://doi.org/10.1109/TMI.2017.2695227)."""

from mmengine.config import read_base

with read_base():
    from .lite0_isic2017 import *

model.tasks.seg.losses = dict(jaccard=dict(type='JaccardLoss'))
