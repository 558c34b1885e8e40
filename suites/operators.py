"""Every feature-passing operator, added to the same trained networks: EfficientNet-Lite0 at 128 pixels, on validation.

A multi-task network without passing is trained for each seed. From there each operator, which starts as the identity,
trains with it for 31 steps on a quarter of the images. So does the unchanged network, 'none', the baseline.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.common_start import *

title = 'Operators: EfficientNet-Lite0 at 128 x 128, 31 joint steps from a common start, on the validation split'
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
baseline = 'none'
config = '../configs/fpm/lite0_isic2017.py'
methods = [
    dict(
        name='start',
        config='../configs/multitask/lite0_isic2017.py',
        options=start,
        note='the start of all others; 31 steps less',
    ),
    *(
        dict(
            name=name, config=config, options={**joint, 'model.passing': {'blocks.4.2': operator}}, starts_from='start'
        )
        for name, operator in operators.items()
    ),
]
del start, joint, gated, operators, config, mixed_precision, SCHEDULE, MOMENTUM
