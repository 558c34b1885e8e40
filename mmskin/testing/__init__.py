"""What a plugin keeps to, as test classes: a plugin of your own inherits all tests of its kind.

In a file that pytest collects::

    from mmskin.testing import GateContract


    class TestMyGate(GateContract):
        cfg = dict(type='MyGate')
"""

from mmskin.testing.contract import Contract
from mmskin.testing.fusion import FusionContract
from mmskin.testing.metric import MetricContract
from mmskin.testing.passing import PassingContract
from mmskin.testing.route import GateContract, MessageContract, OpContract
from mmskin.testing.task import HeadContract, LossContract, TaskContract
from mmskin.testing.weighting import WeightingContract

__all__ = [
    'Contract',
    'FusionContract',
    'GateContract',
    'HeadContract',
    'LossContract',
    'MessageContract',
    'MetricContract',
    'OpContract',
    'PassingContract',
    'TaskContract',
    'WeightingContract',
]
