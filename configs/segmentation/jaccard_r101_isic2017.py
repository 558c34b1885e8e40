"""DeepLab-ResNet101 with the Jaccard-distance loss of Yuan, Chao and Lo instead of eq. 3.

https://doi.org/10.1109/TMI.2017.2695227; the row compares losses, so we did not rebuild their 19-layer network.
"""

from mmengine.config import read_base

with read_base():
    from .deeplab_r101_isic2017 import *

model.tasks.seg.losses = dict(jaccard=dict(type='JaccardLoss'))
