"""Our network against one of segmentation_models.pytorch, by the design of the passing experiment (docs/passing.md).

Set down before it ran, seed 2 first. Both have the same encoder weights, 128 pixels, images and folds, one view and no
choice on the held-out fold; each has the training of its own config. ``start`` and ``none`` are the passing suite's.
Needs ``pip install 'mmskin[smp]'``.
"""

from mmengine.config import read_base

with read_base():
    from .passing import *

title = 'Against a peer: SMP DeepLabV3+ and ours, EfficientNet-Lite0 at 128 x 128, five folds over train and validation'
baseline = 'SMP DeepLabV3+'
peer = '../configs/peers/smp_deeplabv3plus_lite0_isic2017.py'
methods = [
    *methods[:2],
    dict(name='SMP DeepLabV3+', config=peer, options={'tta': False}),
    dict(name='SMP DeepLabV3+, four flips', config=peer, weights_of='SMP DeepLabV3+', options={'tta': True}),
]
del peer
