"""Every way of balancing the tasks' losses: EfficientNet-Lite0 with gated passing at 128 pixels, on validation.

A multi-task network without passing is trained for each seed. From there each method trains gated passing for 32
steps, in four epochs of every 15th image, because DWA counts epochs and takes effect from the third on.
'equal weights' is the baseline.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.common_start import *

title = 'Loss balancing: EfficientNet-Lite0 at 128 x 128, 32 joint steps from a common start, on the validation split'
joint.update({**dict.fromkeys(SCHEDULE, 4), 'train_dataloader.dataset.indices': list(range(0, 2000, 15))})
# uncertainty has only 32 steps to learn its weights; at the network's rate they would hardly move
joint['optim_wrapper.paramwise_cfg'].custom_keys['weighting'] = dict(lr_mult=100.0, decay_mult=0.0)
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
baseline = 'equal weights'
config = '../configs/fpm/lite0_isic2017.py'
methods = [
    dict(
        name='start',
        config='../configs/multitask/lite0_isic2017.py',
        options=start,
        note='the start of all others; no passing, and 32 steps less',
    ),
    dict(name='equal weights', config=config, options=joint, starts_from='start'),
    *(
        dict(name=name, config=config, options={**joint, 'model.weighting': method}, starts_from='start')
        for name, method in balancing.items()
    ),
]
del start, joint, balancing, config, mixed_precision, SCHEDULE, MOMENTUM
