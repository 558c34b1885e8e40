"""lite0_refit_isic2017 in one stage of 20 epochs at 192 pixels, trained as the peer is.

At 128 pixels it is better out of fold than three short stages; at this size it is worse on validation than what ships
(docs/results.md).
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.lite0_inputs_isic2017 import *

stages = None
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=4e-4, weight_decay=0.01))
train_cfg.update(max_epochs=20, val_interval=20)
# torch's one cycle, in place of AdamW's rate
param_scheduler = [dict(type='OneCycleLR', eta_max=6e-4, end=20, convert_to_iter_based=True)]
custom_hooks = [dict(type='EpochSeed'), dict(type='ChannelsLast')]
train_dataloader.dataset.pipeline[0].smallest_crop = 0.7
train_dataloader.dataset.pipeline[2].update(crop=(1.0, 1.0), zoom=(0.7, 1.3))

# 2000 / (3 x 374, 1372 and 254), the training split's melanomas, nevi and keratoses; predictions divide them out
model.tasks.cls.losses.ce.class_weight = model.tasks.cls.undo_class_weight = [1.78, 0.49, 2.62]
model.passing, model.tasks.cls.fusion = None, dict(type='PriorFusion', in_training=False)
model.tasks.seg.update(threshold='expected_jaccard', post=['FillHoles', 'LargestComponent'])
tta, tta_model.pairs = True, [('none', 1.0), ('vertical', 1.15)]
