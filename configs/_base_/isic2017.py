"""ISIC-2017 as the paper trains on it: 233x233 pixels, batches of 16.

A pipeline's first step sets the input size for all later steps. To change it, a config sets it for all three loaders:

    train_dataloader.dataset.pipeline[0].size = 192
    val_dataloader.dataset.pipeline[0].size = 192
    test_dataloader.dataset.pipeline[0].size = 192

and the command line with ``--cfg-options train_dataloader.dataset.pipeline.0.size=192 ...``.
"""

data_root = 'data/isic2017'
train_pipeline = [
    dict(type='LoadImage', size=233, smallest_crop=0.8),
    dict(type='LoadMask'),
    dict(type='RandomWarp', crop=(0.8, 1.0), zoom=(0.9, 1.1), rotation=180),  # the paper names the steps but no ranges
    dict(type='GaussianNoise', max_std=8.0),
    dict(type='PackTaskSample'),
]
test_pipeline = [
    dict(type='LoadImage', size=233),
    dict(type='ResizeImage'),
    dict(type='LoadMask'),  # after the resize, so at its own size, at which the challenge scores
    dict(type='PackTaskSample'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='ISIC2017Dataset', data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ISIC2017Dataset', data_root=data_root, split='val', pipeline=test_pipeline, test_mode=True),
)
test_dataloader = dict(
    batch_size=1,  # the last digits depend on the batch size: with 1 they are the same for any number of processes
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='ISIC2017Dataset', data_root=data_root, split='test', pipeline=test_pipeline, test_mode=True),
)
val_evaluator = [
    dict(type='ClassificationMetric'),
    dict(type='SegmentationMetric'),
    dict(type='ISIC2017ClassificationMetric'),
]
test_evaluator = [*val_evaluator, dict(type='ContourSheet', out_file='cases.png')]  # in the work folder
val_cfg = dict()
test_cfg = dict()
del data_root, train_pipeline, test_pipeline  # the loaders hold copies: changing these names would have no effect
