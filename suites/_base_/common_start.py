"""What suites share whose methods all start from one multi-task network: EfficientNet-Lite0 at 128 pixels."""

SCHEDULE = ('train_cfg.max_epochs', 'param_scheduler.1.T_max', 'param_scheduler.1.end')
MOMENTUM = {'custom_hooks.2.momentum': 0.05}  # the average of weights is over 20 iterations instead of 100

seeds = [0, 1, 2]
metrics = ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'seg/JA', 'seg/DI']
options = {
    'test_dataloader.dataset.split': 'val',
    **{f'{part}_dataloader.dataset.pipeline.0.size': 128 for part in ('train', 'val', 'test')},
}
mixed_precision = {'optim_wrapper.type': 'BFloat16OptimWrapper'}
start = {
    **mixed_precision,
    **dict.fromkeys(SCHEDULE, 1),
    **{f'stages.{stage}.{name}': 2 for stage in (0, 2) for name in SCHEDULE},
    **{f'stages.{stage}.{name}': value for stage in (0, 2) for name, value in MOMENTUM.items()},
}
joint = {  # 31 steps on every fourth training image
    **mixed_precision,
    'stages': None,
    **dict.fromkeys(SCHEDULE, 1),
    **MOMENTUM,
    'train_dataloader.dataset.indices': list(range(0, 2000, 4)),
    'train_dataloader.batch_size': 16,
    'param_scheduler.0.end': 5,
    'optim_wrapper.optimizer.lr': 5e-4,
    # what starts as the identity has 31 steps to become something else
    'optim_wrapper.paramwise_cfg': dict(custom_keys={'passing.': dict(lr_mult=10.0)}),
    'model.frozen': ['backbone.shared.stem', 'backbone.shared.blocks.0', 'backbone.shared.blocks.1'],
}
may_differ = ['train images', 'train seg', 'train cls']  # the start has all of the training split
