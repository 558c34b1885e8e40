"""lite0_refit_isic2017 as mmskin 0.1.0 published it: for testing, with the weights next to it."""

custom_hooks = [
    dict(type='ChannelsLast'),
]
default_scope = 'mmskin'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
log_level = 'INFO'
model = dict(
    members=[
        dict(
            backbone=dict(
                branches=dict(
                    cls=dict(),
                    seg=dict(
                        out_blocks=(
                            'blocks.1.1',
                            'blocks.6.0',
                        ),
                        output_stride=16)),
                chain=dict(type='EfficientNetLite0Chain', weights=None),
                split_after='blocks.3.2',
                type='SplitBackbone'),
            data_preprocessor=dict(
                mean=[
                    127.0,
                    127.0,
                    127.0,
                ],
                std=[
                    128.0,
                    128.0,
                    128.0,
                ],
                type='mmengine.ImgDataPreprocessor'),
            inputs=dict(
                age=dict(
                    edges=(
                        25,
                        35,
                        45,
                        55,
                        65,
                        75,
                    ),
                    maximum=120,
                    mean=50,
                    minimum=0,
                    std=20,
                    type='Numeric'),
                sex=dict(type='Categorical', values=(
                    'female',
                    'male',
                ))),
            passing=None,
            tasks=dict(
                cls=dict(
                    fusion=dict(in_training=False, type='PriorFusion'),
                    head=dict(dropout=0.2, in_channels=1280, type='ClsHead'),
                    losses=dict(
                        ce=dict(label_smoothing=0.05, type='CrossEntropy')),
                    type='Classification',
                    undo_class_weight=[
                        1.4,
                        0.8,
                        1.7,
                    ]),
                seg=dict(
                    head=dict(
                        c1_channels=24,
                        c1_in_channels=24,
                        channels=64,
                        dilations=(
                            1,
                            3,
                            6,
                            9,
                        ),
                        in_channels=320,
                        in_index=1,
                        norm_cfg=dict(type='BN'),
                        num_classes=2,
                        out_channels=1,
                        threshold=0.5,
                        type='mmseg.DepthwiseSeparableASPPHead'),
                    losses=dict(
                        bce=dict(type='torch.nn.BCEWithLogitsLoss'),
                        dice=dict(type='DiceLoss')),
                    post=[
                        'FillHoles',
                        'LargestComponent',
                    ],
                    threshold='expected_jaccard',
                    type='Segmentation')),
            type='MultiTaskModel'),
        dict(
            backbone=dict(
                branches=dict(
                    cls=dict(),
                    seg=dict(
                        out_blocks=(
                            'blocks.1.1',
                            'blocks.6.0',
                        ),
                        output_stride=16)),
                chain=dict(type='EfficientNetLite0Chain', weights=None),
                split_after='blocks.3.2',
                type='SplitBackbone'),
            data_preprocessor=dict(
                mean=[
                    127.0,
                    127.0,
                    127.0,
                ],
                std=[
                    128.0,
                    128.0,
                    128.0,
                ],
                type='mmengine.ImgDataPreprocessor'),
            inputs=dict(
                age=dict(
                    edges=(
                        25,
                        35,
                        45,
                        55,
                        65,
                        75,
                    ),
                    maximum=120,
                    mean=50,
                    minimum=0,
                    std=20,
                    type='Numeric'),
                sex=dict(type='Categorical', values=(
                    'female',
                    'male',
                ))),
            passing=None,
            tasks=dict(
                cls=dict(
                    fusion=dict(in_training=False, type='PriorFusion'),
                    head=dict(dropout=0.2, in_channels=1280, type='ClsHead'),
                    losses=dict(
                        ce=dict(label_smoothing=0.05, type='CrossEntropy')),
                    type='Classification',
                    undo_class_weight=[
                        1.4,
                        0.8,
                        1.7,
                    ]),
                seg=dict(
                    head=dict(
                        c1_channels=24,
                        c1_in_channels=24,
                        channels=64,
                        dilations=(
                            1,
                            3,
                            6,
                            9,
                        ),
                        in_channels=320,
                        in_index=1,
                        norm_cfg=dict(type='BN'),
                        num_classes=2,
                        out_channels=1,
                        threshold=0.5,
                        type='mmseg.DepthwiseSeparableASPPHead'),
                    losses=dict(
                        bce=dict(type='torch.nn.BCEWithLogitsLoss'),
                        dice=dict(type='DiceLoss')),
                    post=[
                        'FillHoles',
                        'LargestComponent',
                    ],
                    threshold='expected_jaccard',
                    type='Segmentation')),
            type='MultiTaskModel'),
    ],
    type='Ensemble')
randomness = dict(seed=0)
test_cfg = dict()
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_root='data/isic2017',
        inputs=dict(age='age_approximate', sex='sex'),
        pipeline=[
            dict(size=224, type='LoadImage'),
            dict(type='ResizeImage'),
            dict(type='LoadMask'),
            dict(type='PackTaskSample'),
        ],
        split='test',
        test_mode=True,
        type='ISIC2017Dataset'),
    num_workers=1,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = [
    dict(type='ClassificationMetric'),
    dict(type='SegmentationMetric'),
    dict(type='ISIC2017ClassificationMetric'),
    dict(out_file='cases.png', type='ContourSheet'),
]
tta = True
tta_model = dict(
    pairs=[
        (
            'none',
            1.0,
        ),
        (
            'vertical',
            1.15,
        ),
    ], zooms=(
        1.0,
        1.15,
    ))
