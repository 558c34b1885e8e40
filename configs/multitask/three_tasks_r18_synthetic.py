"""configs/fpm/r18_synthetic.py with a third task, which measures the lesion; features pass between all three.

Its branch starts from the diagnosis's, and trains by itself before all train together, as the outline's does.
"""

from mmengine.config import read_base

with read_base():
    from ..fpm.r18_synthetic import *

model.backbone.branches.update(shape=dict())
model.tasks.shape = dict(
    type='Regression',
    head=dict(type='ClsHead', num_classes=2),
    losses=dict(smooth_l1=dict(type='torch.nn.SmoothL1Loss')),
    mean=(0.53, 0.01),  # diameter and irregularity of the 300 training masks at 112 pixels
    std=(0.07, 0.01),
    lengths=(0,),
)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.dataset.pipeline.insert(-1, dict(type='MeasureLesion'))
for evaluator in (val_evaluator, test_evaluator):
    evaluator.append(
        dict(type='RegressionMetric', task='shape', names=['diameter', 'irregularity'], lengths=['diameter'])
    )
stages.insert(
    2,
    dict(
        name='shape',
        model=dict(active_tasks=['shape'], frozen=['shared'], use_passing=False),
        custom_hooks=[*custom_hooks, dict(type='CopyBranch', source='cls', target='shape')],
    ),
)
del loader, evaluator
