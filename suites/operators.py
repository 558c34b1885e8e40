"""Feature-passing operators by the design of the passing experiment: one site, common starts, five folds, 2150 images.

Set down before it ran: docs/passing.md has the design, and which five operators run first. Out of the passing suite's
folders, ``start``, ``none`` and ``gated sum`` are taken as they are.
"""

from mmengine.config import read_base

with read_base():
    from .passing import *

title = 'Operators: EfficientNet-Lite0 at 128 x 128, five folds over training and validation'
gated = 'GatedFeaturePassing'
operators = {
    'cross-stitch': dict(type='CrossStitchPassing'),
    'MMoE': dict(type='MMoEPassing'),
    'cross-attention': dict(type='CrossAttentionPassing'),
    'FiLM': dict(type='FiLMPassing'),
    'mask and CAM': dict(type='MaskCAMPassing'),
    'ungated': dict(type='UngatedPassing'),
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
    'sluice': dict(type='SluicePassing'),
    'NDDR': dict(type='NDDRPassing'),
    'MTAN': dict(type='MTANPassing'),
    'PAD-Net': dict(type='PADNetPassing'),
    'MTI': dict(type='MTIPassing'),
    'AFA': dict(type='AFAPassing'),
}
passing = methods[2]  # the gated sum
methods = [
    *methods[:3],
    *(
        dict(
            name=name,
            config=passing['config'],
            options={**passing['options'], 'model.passing': {'blocks.4.2': dict(**operator, identity_init=False)}},
            starts_from='start',
        )
        for name, operator in operators.items()
    ),
]
del gated, operators, passing
