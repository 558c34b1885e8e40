"""lite0_isic2017 with age and sex from ISIC-2017's metadata files; each may be unknown.

`PriorFusion` adds to the logits what age and sex alone say about the diagnosis. To make features depend on them,
set `type='FiLMFusion'` or `'ConcatFusion'`.
"""

from mmengine.config import read_base

with read_base():
    from .lite0_isic2017 import *

model.inputs = dict(
    age=dict(type='Numeric', minimum=0, maximum=120, edges=(25, 35, 45, 55, 65, 75), mean=50, std=20),
    sex=dict(type='Categorical', values=('female', 'male')),
)
model.tasks.cls.fusion = dict(type='PriorFusion')

columns = dict(age='age_approximate', sex='sex')
train_dataloader.dataset.inputs = columns
val_dataloader.dataset.inputs = columns
test_dataloader.dataset.inputs = columns
del columns
# a third of the images lack age or sex, so that the network learns to work without them
train_dataloader.dataset.pipeline.insert(-1, dict(type='DropInputs', prob=0.15, all_prob=0.2))
