"""The first two stages of lite0_isic2017: trained branches, from which comparisons of joint stages start."""

from mmengine.config import read_base

with read_base():
    from .lite0_isic2017 import *

stages = stages[:2]
