"""The contracts notice what is broken, and can be used from outside."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from mmskin.evaluation.segmentation import SegmentationMetric
from mmskin.models.heads.cls_head import ClsHead
from mmskin.models.losses.dice import DiceLoss
from mmskin.models.necks.elementwise_gate import ElementwiseGate
from mmskin.models.necks.feature_passing import GatedFeaturePassing
from mmskin.models.necks.sum_op import SumOp
from mmskin.testing import (
    GateContract,
    HeadContract,
    LossContract,
    MetricContract,
    OpContract,
    PassingContract,
)


def run(contract, kind, name, **options):
    """One test of a contract for a plugin, as pytest would run it."""
    case = type(f'Test{kind.__name__}', (contract,), dict(cfg=dict(type=kind, **options)))()
    getattr(case, name)()


class LoudGate(ElementwiseGate):
    """Rates above 1."""

    def forward(self, x):
        return 2 * super().forward(x)


class NarrowGate(ElementwiseGate):
    """A rate for half of a message's channels."""

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels // 2)


class WastefulGate(ElementwiseGate):
    """A parameter without use."""

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels)
        self.spare = nn.Parameter(torch.zeros(3))


class BatchGate(ElementwiseGate):
    """An image's rates depend on the others."""

    def forward(self, x):
        return super().forward(x - x.mean(dim=0))


class LeakyPassing(GatedFeaturePassing):
    """Does not cut what is to be detached."""

    def brought(self, route, feature):
        return feature


class GreedyPassing(GatedFeaturePassing):
    """Every branch gets from every other, whatever the routes."""

    def forward(self, inputs, outputs):
        total = sum(feature.mean() for feature in inputs.values())
        return {task: feature + total for task, feature in super().forward(inputs, outputs).items()}


class BusyPassing(GatedFeaturePassing):
    """Does not say which of its parts are idle."""

    def idle_parts(self, tasks):
        return []


class RudePassing(GatedFeaturePassing):
    """Changes the caller's maps."""

    def forward(self, inputs, outputs):
        for feature in outputs.values():
            feature.add_(1)
        return super().forward(inputs, outputs)


class LosingPassing(GatedFeaturePassing):
    """Loses what no route ends in."""

    def forward(self, inputs, outputs):
        ends = {target for _, target in self.running(inputs).values()}
        return {task: feature for task, feature in super().forward(inputs, outputs).items() if task in ends}


class SinglePassing(GatedFeaturePassing):
    """Computes in single precision, whatever it is given."""

    def read(self, inputs, outputs):
        return {task: feature.float() for task, feature in inputs.items()}


class FirstMapHead(ClsHead):
    """Reads the first of several maps."""

    def forward(self, feats):
        return super().forward(feats[::-1])


class InvertedLoss(DiceLoss):
    """Rewards what is wrong."""

    def forward(self, logits, target):
        return super().forward(-logits, target)


class PooledMetric(SegmentationMetric):
    """Counts an image without a mask as a miss."""

    def measure(self, sample):
        return super().measure(sample) or {'JA': 0.0, 'DI': 0.0, 'AC': 0.0, 'sensitivity': 0.0, 'specificity': 0.0}


BROKEN = [
    (GateContract, LoudGate, 'test_rates_fit_the_message'),
    (GateContract, NarrowGate, 'test_rates_fit_the_message'),
    (GateContract, WastefulGate, 'test_gradient_reaches_all'),
    (GateContract, BatchGate, 'test_an_image_does_not_depend_on_its_batch'),
    (PassingContract, LeakyPassing, 'test_gradient_goes_where_routes_lead'),
    (PassingContract, GreedyPassing, 'test_gradient_goes_where_routes_lead'),
    (PassingContract, SinglePassing, 'test_double_precision'),
    (PassingContract, BusyPassing, 'test_no_parameter_is_unused'),
    (PassingContract, RudePassing, 'test_its_arguments_stay'),
    (PassingContract, LosingPassing, 'test_a_branch_that_rests_is_left_out'),
    (HeadContract, FirstMapHead, 'test_logits'),
    (LossContract, InvertedLoss, 'test_right_costs_less_than_wrong'),
    (LossContract, InvertedLoss, 'test_gradient_points_to_the_target'),
    (MetricContract, PooledMetric, 'test_images_without_labels_change_nothing'),
    (MetricContract, PooledMetric, 'test_nothing_to_judge'),
]


@pytest.mark.parametrize(('contract', 'kind', 'name'), BROKEN)
def test_what_is_broken_is_noticed(contract, kind, name):
    base = kind.__mro__[1]
    run(contract, base, name)
    with pytest.raises((AssertionError, RuntimeError)):
        run(contract, kind, name)


@pytest.mark.parametrize('op', ['SumOp', 'ProductOp', 'ConcatOp'])
def test_an_operator_that_passes_at_once_is_noticed(op):
    for name in ('test_identity_at_first', 'test_joined_network_starts_as_the_separate_ones'):
        with pytest.raises(AssertionError):
            run(PassingContract, GatedFeaturePassing, name, op=dict(type=op, identity_init=False))
    with pytest.raises(AssertionError):
        run(OpContract, SumOp, 'test_starts_as_identity', identity_init=False)


def test_importing_the_contracts_is_light():
    """They are imported by whoever walks the package, where there may be no pytest."""
    code = "import sys, mmskin.testing; assert not {'pytest', 'mmseg', 'mmpretrain', 'timm'} & {*sys.modules}"
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_three_lines_outside(tmp_path):
    """A package of a user's own: its gate, and a test that inherits the contract."""
    (tmp_path / 'my_gate.py').write_text(
        'from mmskin.models.necks.elementwise_gate import ElementwiseGate\n'
        'from mmskin.registry import MODELS\n\n\n'
        '@MODELS.register_module()\n'
        'class MyGate(ElementwiseGate):\n'
        '    pass\n'
    )
    (tmp_path / 'test_my_gate.py').write_text(
        'import my_gate\n'
        'from mmskin.testing import GateContract\n\n\n'
        'class TestMyGate(GateContract):\n'
        "    cfg = dict(type='MyGate')\n"
    )
    command = [
        sys.executable,
        '-W',
        'ignore',
        '-m',
        'pytest',
        '-q',
        '-p',
        'no:cacheprovider',
        '-p',
        'no:cov',
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    count = sum(name.startswith('test_') for name in dir(GateContract))
    assert f'{count} passed' in done.stdout, done.stdout + done.stderr
