"""Every way of balancing the tasks' losses: EfficientNet-Lite0 with gated passing at 128 pixels, on validation.

A multi-task network without passing is trained for each seed. From there each method trains gated passing for two
epochs; 'equal weights', which is no method, is what the others are to be compared with.
"""

SCHEDULE = ('train_cfg.max_epochs', 'param_scheduler.1.T_max', 'param_scheduler.1.end')
MOMENTUM = {'custom_hooks.2.momentum': 0.05}  # the average of weights is over 20 iterations instead of 100

title = 'Loss balancing: EfficientNet-Lite0 at 128 x 128, two joint epochs from a common start, on the validation split'
seeds = [0, 1, 2]
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'seg/JA', 'seg/DI']
options = {
    'test_dataloader.dataset.split': 'val',
    **{f'{part}_dataloader.dataset.pipeline.0.size': 128 for part in ('train', 'val', 'test')},
}
start = {
    **dict.fromkeys(SCHEDULE, 1),
    **{f'stages.{stage}.{name}': 2 for stage in (0, 2) for name in SCHEDULE},
    **{f'stages.{stage}.{name}': value for stage in (0, 2) for name, value in MOMENTUM.items()},
}
joint = {
    'stages': None,
    **dict.fromkeys(SCHEDULE, 2),
    **MOMENTUM,
    'optim_wrapper.optimizer.lr': 5e-4,
    'model.frozen': ['backbone.shared.stem', 'backbone.shared.blocks.0', 'backbone.shared.blocks.1'],
}
balancing = {
    'segmentation twice': dict(type='FixedWeights', weights=dict(cls=1.0, seg=2.0)),
    'uncertainty': dict(type='UncertaintyWeights'),
    'DWA': dict(type='DWA'),
    'GradNorm': dict(type='GradNorm'),
    'RLW': dict(type='RLW'),
    'GLS': dict(type='GLS'),
    'PCGrad': dict(type='PCGrad'),
    'CAGrad': dict(type='CAGrad'),
    'UPGrad': dict(type='UPGrad'),
}
config = '../../configs/fpm/lite0_isic2017.py'
methods = [
    dict(
        name='start',
        config='../../configs/multitask/lite0_isic2017.py',
        options=start,
        note='what all others start from; no passing, and two joint epochs less',
    ),
    dict(name='equal weights', config=config, options=joint, starts_from='start'),
    *(
        dict(name=name, config=config, options={**joint, 'model.weighting': method}, starts_from='start')
        for name, method in balancing.items()
    ),
]
del start, joint, balancing, config, SCHEDULE, MOMENTUM
