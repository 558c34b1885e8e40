"""The contracts notice what is broken, and can be used from outside."""

import re
import subprocess
import sys

import forked
import pytest
import torch
from torch import nn

from mmskin.evaluation.segmentation import SegmentationMetric
from mmskin.models.heads import ClsHead
from mmskin.models.losses import DiceLoss
from mmskin.models.passing.feature_passing import BottleneckPassing, GatedFeaturePassing
from mmskin.models.passing.gates import ConvMessage, ElementwiseGate, SumOp
from mmskin.models.tasks.classification import Classification
from mmskin.models.weighting.from_losses import DWA, GLS
from mmskin.testing import (
    GateContract,
    HeadContract,
    LossContract,
    MessageContract,
    MetricContract,
    OpContract,
    PassingContract,
    TaskContract,
    WeightingContract,
)


def run(contract, kind, name, **options):
    """One test of a contract for a plugin, as pytest would run it."""
    case = type(f'Test{kind.__name__}', (contract,), dict(cfg=dict(type=kind, **options)))()
    getattr(case, 'setup_method', bool)()
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


class BatchMessage(ConvMessage):
    """So does its message."""

    def forward(self, x):
        return super().forward(x - x.mean(dim=0))


class BatchOp(SumOp):
    """What is added as well."""

    def forward(self, feature, message):
        return super().forward(feature, message - message.mean(dim=0))


class BatchPassing(GatedFeaturePassing):
    """The same in an operator."""

    def forward(self, inputs, outputs):
        return super().forward({task: feature - feature.mean(dim=0) for task, feature in inputs.items()}, outputs)


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

    def forward(self, inputs, outputs):
        return super().forward({task: feature.float() for task, feature in inputs.items()}, outputs)


class MutePassing(GatedFeaturePassing):
    """Has lost its gates."""

    def gates(self, inputs, outputs):
        return {}


class UnexplainedPassing(GatedFeaturePassing):
    """Has gates, and does not say what they are."""

    def gates(self, inputs, outputs):
        gates = super().gates(inputs, outputs)
        self.quantity = ''
        return gates


class StubbornPassing(GatedFeaturePassing):
    """Starts as the identity, whatever it is told."""

    def __init__(self, *args, identity_init=True, **options):
        super().__init__(*args, **options)


class NormedPassing(GatedFeaturePassing):
    """PyTorch's batch norm refuses a single value per channel."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.norms = nn.ModuleDict({task: nn.BatchNorm2d(channels) for task, channels in self.in_channels.items()})

    def forward(self, inputs, outputs):
        return super().forward({task: self.norms[task](feature) for task, feature in inputs.items()}, outputs)


class FirstMapHead(ClsHead):
    """Reads the first of several maps."""

    def forward(self, feats):
        return super().forward(feats[::-1])


class BatchHead(ClsHead):
    """An image's logits depend on the others."""

    def forward(self, feats):
        return super().forward([feats[-1] - feats[-1].mean(dim=0)])


class WastefulLoss(DiceLoss):
    """A parameter without use."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(3))


class InvertedLoss(DiceLoss):
    """Rewards what is wrong."""

    def forward(self, logits, target):
        return super().forward(-logits, target)


class PooledMetric(SegmentationMetric):
    """Counts an image without a mask as a miss."""

    def measure(self, sample):
        return super().measure(sample) or {'JA': 0.0, 'DI': 0.0, 'AC': 0.0, 'sensitivity': 0.0, 'specificity': 0.0}


class ThinningWeights(GLS):
    """A task without a label takes its share of the weights along."""

    def weights(self, values, present):
        return super().weights(values, present) * present.sum() / len(present)


class ForgetfulWeights(DWA):
    """Keeps what it has learnt where no checkpoint looks."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._non_persistent_buffers_set |= {'average', 'earlier'}


class ClingingWeights(DWA):
    """Goes on where the stage before has ended."""

    def train(self, mode=True):
        self._start = {}
        return super().train(mode)


class ForgetfulPassing(BottleneckPassing):
    """Begins again at every site."""

    def forward(self, inputs, outputs, state=None):
        return super().forward(inputs, outputs)


class SpoilingPassing(BottleneckPassing):
    """Changes the state that it is handed."""

    def forward(self, inputs, outputs, state=None):
        given = super().forward(inputs, outputs, state)
        for tokens in (state or {}).values():
            tokens.data += 1
        return given


class SharingPassing(BottleneckPassing):
    """Hands on what it saw of the whole batch."""

    def forward(self, inputs, outputs, state=None):
        new, tokens = super().forward(inputs, outputs, state)
        return new, {task: z - z.mean(dim=0) for task, z in tokens.items()}


class SpreadingPassing(BottleneckPassing):
    """Hands on to every branch what any has seen."""

    def forward(self, inputs, outputs, state=None):
        new, tokens = super().forward(inputs, outputs, state)
        total = sum(feature.mean() for feature in outputs.values())
        return new, {task: z + total for task, z in tokens.items()}


class DiagnosisContract(TaskContract):
    given = dict(head=dict(type='ClsHead', in_channels=6), losses=dict(ce=dict(type='CrossEntropy')))


class SilentTask(Classification):
    """Has no loss without a label."""

    def loss(self, feats, samples):
        return super().loss(feats, samples) if any(self.target in sample for sample in samples) else {}


class AveragingTask(Classification):
    """An unlabelled sample makes the others count for less."""

    def loss(self, feats, samples):
        share = sum(self.target in sample for sample in samples) / len(samples)
        return {name: share * value for name, value in super().loss(feats, samples).items()}


BROKEN = [
    (GateContract, LoudGate, 'test_rates_fit_the_message'),
    (GateContract, NarrowGate, 'test_rates_fit_the_message'),
    (GateContract, WastefulGate, 'test_gradient_reaches_all'),
    (GateContract, BatchGate, 'test_an_image_does_not_depend_on_its_batch'),
    (MessageContract, BatchMessage, 'test_an_image_does_not_depend_on_its_batch'),
    (OpContract, BatchOp, 'test_an_image_does_not_depend_on_its_batch'),
    (PassingContract, BatchPassing, 'test_an_image_does_not_depend_on_its_batch'),
    (PassingContract, LeakyPassing, 'test_gradient_goes_where_routes_lead'),
    (PassingContract, GreedyPassing, 'test_gradient_goes_where_routes_lead'),
    (PassingContract, SinglePassing, 'test_double_precision'),
    (PassingContract, BusyPassing, 'test_no_parameter_is_unused'),
    (PassingContract, RudePassing, 'test_its_arguments_stay'),
    (PassingContract, LosingPassing, 'test_a_branch_that_rests_is_left_out'),
    (PassingContract, MutePassing, 'test_gates'),
    (PassingContract, UnexplainedPassing, 'test_gates'),
    (PassingContract, StubbornPassing, 'test_passes_at_once_without_identity'),
    (PassingContract, NormedPassing, 'test_trains_on_one_image'),
    (PassingContract, ForgetfulPassing, 'test_a_state_travels'),
    (PassingContract, SpoilingPassing, 'test_a_state_travels'),
    (PassingContract, SharingPassing, 'test_a_state_travels'),
    (PassingContract, SpreadingPassing, 'test_a_state_learns_along_routes'),
    (HeadContract, FirstMapHead, 'test_logits'),
    (HeadContract, BatchHead, 'test_an_image_does_not_depend_on_its_batch'),
    (LossContract, WastefulLoss, 'test_gradient_reaches_all'),
    (LossContract, InvertedLoss, 'test_right_costs_less_than_wrong'),
    (LossContract, InvertedLoss, 'test_gradient_points_to_the_target'),
    (MetricContract, PooledMetric, 'test_images_without_labels_change_nothing'),
    (MetricContract, PooledMetric, 'test_nothing_to_judge'),
    (DiagnosisContract, SilentTask, 'test_without_a_label_zero_reaches_every_parameter'),
    (DiagnosisContract, AveragingTask, 'test_unlabelled_samples_are_left_out'),
    (WeightingContract, ThinningWeights, 'test_a_batch_without_a_label_is_as_if_the_task_were_not_there'),
    (WeightingContract, ForgetfulWeights, 'test_resumes_bit_by_bit'),
    (WeightingContract, ClingingWeights, 'test_the_next_stage_starts_afresh'),
]


@pytest.mark.parametrize(('contract', 'kind', 'name'), BROKEN)
def test_what_is_broken_is_noticed(contract, kind, name):
    base = kind.__mro__[1]
    run(contract, base, name)
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
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


def passes_outside(folder, contract):
    """Whether all tests of a contract pass in a user's own folder."""
    done = forked.run('-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-p', 'no:cov', folder, folder=folder)
    count = sum(name.startswith('test_') for name in dir(contract))
    print(done.stdout, done.stderr)
    return f'{count} passed' in done.stdout


def test_three_lines_outside(tmp_path):
    """A package of a user's own: its gate, and a test that inherits the contract."""
    (tmp_path / 'my_gate.py').write_text(
        'from mmskin.models.passing.gates import ElementwiseGate\n'
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
    assert passes_outside(tmp_path, GateContract)


def test_the_documented_weighting(repository, tmp_path):
    """docs/loss_balancing.md shows a method and its test, which together are a user's two files."""
    method, test = re.findall(r'```python\n(from .*?)```', (repository / 'docs/loss_balancing.md').read_text(), re.S)
    (tmp_path / 'inverse_loss.py').write_text(method)
    (tmp_path / 'test_inverse_loss.py').write_text(f'import inverse_loss\n{test}')
    assert passes_outside(tmp_path, WeightingContract)
