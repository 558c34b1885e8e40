"""The diagnosis of lite0_refit_isic2017 alone, from another seed: the second network of the ensemble that ships.

Out of fold, the mean of two networks that were trained apart is better by .024 in mean AUC than one (docs/results.md).
It trains no joint stage, which cost the diagnosis .012 of mean AUC there.
"""

from mmengine.config import read_base

with read_base():
    from ..multitask.lite0_refit_isic2017 import *

model.tasks.pop('seg')
model.backbone.branches.pop('seg')
stages = [stages[0], stages[3]]
randomness = dict(seed=1)
