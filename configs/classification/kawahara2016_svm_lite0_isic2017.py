"""configs/classification/kawahara2016_lite0_isic2017.py with a linear support vector machine."""

from mmengine.config import read_base

with read_base():
    from .kawahara2016_lite0_isic2017 import *

train_cfg.classifier = dict(type='sklearn.svm.LinearSVC', C=1e-4)
