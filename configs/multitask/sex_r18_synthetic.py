"""configs/fpm/r18_synthetic.py with a second classification: the sex, from the column of the images' table.

Its branch starts from the diagnosis's in the last stage, in which all three train together.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.r18_synthetic import *

model.backbone.branches.update(sex=dict())
model.tasks.sex = dict(
    type='Classification',
    target='gt_sex',
    head=dict(type='ClsHead', num_classes=2),
    losses=dict(ce=dict(type='CrossEntropy')),
)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.dataset.update(columns=dict(gt_sex='sex'), metainfo=dict(gt_sex=('female', 'male')))
for evaluator in (val_evaluator, test_evaluator):
    evaluator.append(dict(type='ClassificationMetric', task='sex'))
stages[-1].update(custom_hooks=[*custom_hooks, dict(type='CopyBranch', source='cls', target='sex')])
del loader, evaluator
