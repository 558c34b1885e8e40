"""Table 2's VGG16: fc8 replaced for three classes, trained like configs/classification/r101_isic2017.py."""

from mmengine.config import read_base

with read_base():
    from .r101_isic2017 import *

model.backbone.chain = dict(type='VGGChain', depth=16, weights='torchvision://vgg16', fully_connected=True)
model.backbone.split_after = None
model.tasks.cls.head.update(in_channels=4096)
