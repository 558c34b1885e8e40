"""Every feature-passing operator, added to the same trained networks: EfficientNet-Lite0 at 128 pixels, on validation.

A multi-task network without passing is trained for each seed. From there each operator, which starts as the identity,
trains with it for one more epoch; so does the network as it is ('none'), with which the others are to be compared.
"""

SCHEDULE = ('train_cfg.max_epochs', 'param_scheduler.1.T_max', 'param_scheduler.1.end')
MOMENTUM = {'custom_hooks.2.momentum': 0.05}  # the average of weights is over 20 iterations instead of 100

title = 'Operators: EfficientNet-Lite0 at 128 x 128, one joint epoch from a common start, on the validation split'
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
    **dict.fromkeys(SCHEDULE, 1),
    **MOMENTUM,
    'optim_wrapper.optimizer.lr': 5e-4,
    'model.frozen': ['backbone.shared.stem', 'backbone.shared.blocks.0', 'backbone.shared.blocks.1'],
}
gated = 'GatedFeaturePassing'
operators = {
    'none': dict(type='NoPassing'),
    'ungated': dict(type='UngatedPassing'),
    'gated, sum': dict(type=gated),
    'gated, sum, without identity': dict(type=gated, op=dict(type='SumOp', identity_init=False)),
    'gated, product': dict(type=gated, op=dict(type='ProductOp')),
    'gated, concatenation': dict(type=gated, op=dict(type='ConcatOp')),
    'gated, reads target': dict(type=gated, gate_reads='target'),
    'gated, reads both': dict(type=gated, gate_reads='both'),
    'gated, one way to seg': dict(type=gated, routes=[('cls', 'seg')]),
    'gated, one way to cls': dict(type=gated, routes=[('seg', 'cls')]),
    'channel gate': dict(type=gated, gate=dict(type='ChannelGate')),
    'spatial gate': dict(type=gated, gate=dict(type='SpatialGate')),
    'scalar gate': dict(type=gated, gate=dict(type='ScalarGate')),
    'GBD': dict(type='GBDPassing'),
    'cross-stitch': dict(type='CrossStitchPassing'),
    'sluice': dict(type='SluicePassing'),
    'NDDR': dict(type='NDDRPassing'),
    'MTAN': dict(type='MTANPassing'),
    'PAD-Net': dict(type='PADNetPassing'),
    'MTI': dict(type='MTIPassing'),
    'AFA': dict(type='AFAPassing'),
    'MMoE': dict(type='MMoEPassing'),
    'cross-attention': dict(type='CrossAttentionPassing'),
    'FiLM': dict(type='FiLMPassing'),
    'mask and CAM': dict(type='MaskCAMPassing'),
}
config = '../../configs/fpm/lite0_isic2017.py'
methods = [
    dict(
        name='start',
        config='../../configs/multitask/lite0_isic2017.py',
        options=start,
        note='what all others start from; one joint epoch less',
    ),
    *(
        dict(
            name=name, config=config, options={**joint, 'model.passing': {'blocks.4.2': operator}}, starts_from='start'
        )
        for name, operator in operators.items()
    ),
]
del start, joint, gated, operators, config, SCHEDULE, MOMENTUM
