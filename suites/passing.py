"""Do the tasks help each other? Seven arms from common starts, in five grouped folds over all 2150 images.

Set down before it ran: docs/passing.md has the arms, endpoints, margins and power, and what was decided beforehand.
"""

SCHEDULE = ('train_cfg.max_epochs', 'param_scheduler.1.T_max', 'param_scheduler.1.end')

title = 'Do the tasks help each other? EfficientNet-Lite0 at 128 x 128, five folds over training and validation'
seeds = [0, 1, 2]
folds = dict(count=5, groups=['same_lesion_groups.csv', 'duplicates'])
metrics = ['cls/AC', 'cls/AUC_mean', 'cls/mAP', 'seg/JA']
margins = {'cls/AC': 0.012, 'seg/JA': 0.005}
power = dict(
    churn=0.11,
    sd={'seg/JA': 0.06},
    seed_sd={'cls/AC': 0.005, 'seg/JA': 0.003},
    difference={'cls/AC': 0.022, 'seg/JA': 0.007},
)
options = {f'{part}_dataloader.dataset.pipeline.0.size': 128 for part in ('train', 'val', 'test')}
options['train_dataloader.dataset.pipeline.3.type'] = 'mmpretrain.ColorJitter'  # as the first runs were trained
joint = {
    'stages': None,
    **dict.fromkeys(SCHEDULE, 8),
    'optim_wrapper.optimizer.lr': 5e-4,
    # what passes features starts from random weights next to trained branches, and decays towards no passing
    'optim_wrapper.paramwise_cfg': dict(custom_keys={'passing.': dict(lr_mult=2.0, decay_mult=0.0)}),
    'custom_hooks.2.momentum': 0.02,  # 430 steps: the average forgets the start
    'model.frozen': ['backbone.shared.stem', 'backbone.shared.blocks.0', 'backbone.shared.blocks.1'],
}
plain, gated = '../configs/multitask/lite0_isic2017.py', '../configs/fpm/lite0_isic2017.py'
baseline = 'none'
methods = [
    dict(name='start', config='../configs/multitask/lite0_start_isic2017.py', note='what all others start from'),
    dict(name='none', config=plain, options=joint, starts_from='start'),
    *(
        dict(
            name=name,
            config=gated,
            options={**joint, 'model.passing': {'blocks.4.2': dict(type=operator, identity_init=False)}},
            starts_from='start',
            note=note,
        )
        for name, operator, note in (
            ('gated sum', 'GatedFeaturePassing', 'eq. 4 to 9 of the paper, as printed'),
            ('ungated', 'UngatedPassing', 'G = 1'),
            ('shuffled', 'ShuffledPassing', "gated, with the messages of the batch's next image"),
        )
    ),
    dict(
        name='mask-guided pooling',
        config='../configs/fpm/lite0_mask_pooling_isic2017.py',
        options=joint,
        starts_from='start',
    ),
    dict(name='second look', config='../configs/fpm/lite0_second_look_isic2017.py', options=joint, starts_from='start'),
    dict(
        name='age and sex',
        config=plain,
        options={
            **joint,
            'model.inputs': dict(
                age=dict(type='Numeric', minimum=0, maximum=120, edges=(25, 35, 45, 55, 65, 75), mean=50, std=20),
                sex=dict(type='Categorical', values=('female', 'male')),
            ),
            'model.tasks.cls.fusion': dict(type='PriorFusion'),
            **{
                f'{part}_dataloader.dataset.inputs': dict(age='age_approximate', sex='sex')
                for part in ('train', 'val', 'test')
            },
        },
        starts_from='start',
    ),
]
del joint, plain, gated, SCHEDULE
