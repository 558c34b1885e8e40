"""configs/fundus/r18_synthetic.py with three tasks more: which eye it is, findings, and where these are.

``eye`` is a second classification, ``findings`` are labels of which any may apply and any may be unknown, and
``lesions`` are masks that may overlap.
"""

from mmengine.config import read_base

with read_base():
    from .r18_synthetic import *

model.backbone.branches.update(eye=dict(), findings=dict(), lesions=dict(output_stride=8))
model.tasks.update(
    eye=dict(
        type='Classification',
        target='gt_eye',
        head=dict(type='ClsHead', num_classes=2),
        losses=dict(ce=dict(type='CrossEntropy')),
    ),
    findings=dict(
        type='MultiLabelClassification',
        target='gt_findings',
        head=dict(type='ClsHead', num_classes=2),
        losses=dict(bce=dict(type='torch.nn.BCEWithLogitsLoss')),
    ),
    lesions=dict(
        type='MultiLabelSegmentation',
        target='gt_lesions',
        head=dict(type='ASPPHead', out_channels=2, rates=(1, 2, 3, 4)),
        losses=dict(dice=dict(type='DiceLoss'), bce=dict(type='torch.nn.BCEWithLogitsLoss')),
    ),
)
model.passing['layer3.1'].routes = [('grade', 'vessels'), ('vessels', 'grade')]  # five tasks would have 20
for evaluator in (val_evaluator, test_evaluator):
    evaluator.extend(
        [
            dict(type='ClassificationMetric', task='eye'),
            dict(type='MultiLabelMetric', task='findings'),
            dict(type='SegmentationMetric', task='lesions'),
        ]
    )
del evaluator
