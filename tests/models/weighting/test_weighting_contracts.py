"""What every registered way of balancing losses keeps to; it is tested by being registered."""

from mmskin.models.weighting.from_gradients import GradientWeighting
from mmskin.models.weighting.weighting import Weighting
from mmskin.registry import MODELS
from mmskin.testing import WeightingContract

MODELS.import_from_location()
EVERY = sorted(name for name, kind in MODELS.module_dict.items() if issubclass(kind, Weighting))
PECULIARITIES = dict(RLW=dict(drawn=True), GradNorm=dict(trained=('backbone.shared.0.weight',)))

for name in EVERY:
    members = dict(cfg=dict(type=name), **PECULIARITIES.get(name, {}))
    globals()[f'Test{name}'] = type(f'Test{name}', (WeightingContract,), members)


def test_there_are_some():
    assert {'FixedWeights', 'UncertaintyWeights', 'DWA', 'GradNorm', 'RLW', 'GLS'} <= {*EVERY}
    assert {'PCGrad', 'CAGrad', 'UPGrad'} <= {name for name in EVERY if issubclass(MODELS.get(name), GradientWeighting)}
