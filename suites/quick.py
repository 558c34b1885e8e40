"""Table 1 in small, for two CPU cores: EfficientNet-Lite0 at 128 pixels, few epochs, on validation.

It shows how a benchmark works; networks trained this briefly rank no method.
"""


def epochs(stage, count):
    """Options that let a stage, or the part of a config that all stages share ('*'), train for ``count`` epochs.

    The configs' average of weights is over 100 iterations, and would hold what a stage of 124 began with; here 20.
    """
    names = ('train_cfg.max_epochs', 'param_scheduler.1.T_max', 'param_scheduler.1.end')
    if stage == '*':
        return dict.fromkeys(names, count)
    options = {**dict.fromkeys(names, count), 'custom_hooks.2.momentum': 0.05}
    return {f'stages.{stage}.{name}': value for name, value in options.items()}


title = 'Quick: EfficientNet-Lite0 at 128 x 128, few epochs, on the validation split'
seeds = [0, 1, 2]
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'seg/JA', 'seg/DI']
options = {
    'test_dataloader.dataset.split': 'val',
    **{f'{part}_dataloader.dataset.pipeline.0.size': 128 for part in ('train', 'val', 'test')},
}
joint = {**epochs(0, 2), **epochs('*', 2), **epochs(2, 3)}
as_printed = dict(type='SumOp', identity_init=False)
methods = [
    dict(
        name='base, classification',
        config='../configs/classification/lite0_isic2017.py',
        options={**epochs(0, 2), **epochs(1, 3)},
    ),
    dict(
        name='base, segmentation',
        config='../configs/segmentation/lite0_isic2017.py',
        options={**epochs('*', 4), **epochs(1, 3)},
    ),
    dict(name='multi-task', config='../configs/multitask/lite0_isic2017.py', options=joint),
    dict(name='gated sum', config='../configs/fpm/lite0_isic2017.py', options=joint),
    dict(
        name='gated sum, as printed',
        config='../configs/fpm/lite0_isic2017.py',
        options={**joint, 'model.passing': {'blocks.4.2': dict(type='GatedFeaturePassing', op=as_printed)}},
        note='messages count in full from the first step, where mmskin lets them in by scales that start at zero.',
    ),
    dict(
        name='gated sum, TTA, filled holes',
        config='../configs/fpm/lite0_isic2017.py',
        weights_of='gated sum',
        options={**joint, 'tta': True, 'model.tasks.seg.post': [dict(type='FillHoles')]},
    ),
]
del joint, as_printed
