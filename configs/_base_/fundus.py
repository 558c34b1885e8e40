"""Synthetic fundus photographs: loaders over a table, which any collection of images may have."""

data_root = 'data/fundus'
columns = dict(gt_grade='grade', gt_eye='eye', gt_findings=('haemorrhage', 'exudate'))
masks = dict(
    gt_vessels='vessels/{image_id}.png',  # a class per pixel, since it has two names below
    gt_lesions=('haemorrhage/{image_id}.png', 'exudate/{image_id}.png'),  # may overlap: a file each
)
metainfo = dict(
    gt_eye=('left', 'right'),
    gt_findings=('haemorrhage', 'exudate'),
    gt_vessels=('artery', 'vein'),
    gt_lesions=('haemorrhage', 'exudate'),
)
train_pipeline = [
    dict(type='LoadImage', size=128, smallest_crop=0.9),
    dict(type='LoadMask'),
    dict(type='RandomWarp', crop=(0.9, 1.0), rotation=15, flip=0.0),  # a mirrored eye would be the other one
    dict(type='PackTaskSample'),
]
test_pipeline = [
    dict(type='LoadImage', size=128),
    dict(type='ResizeImage'),
    dict(type='LoadMask'),
    dict(type='PackTaskSample'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CsvDataset',
        data_root=data_root,
        csv='fundus.csv',
        image='images/{image_id}.png',
        columns=columns,
        masks=masks,
        metainfo=metainfo,
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset={**train_dataloader['dataset'], 'split': 'val', 'pipeline': test_pipeline, 'test_mode': True},
)
test_dataloader = dict(
    batch_size=1,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset={**train_dataloader['dataset'], 'split': 'test', 'pipeline': test_pipeline, 'test_mode': True},
)
val_cfg = dict()
test_cfg = dict()
del data_root, columns, masks, metainfo, train_pipeline, test_pipeline  # the loaders hold copies
