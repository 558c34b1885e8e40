"""What the bases do for an operator that keeps parts in each of their homes."""

import runpy

import pytest
from torch import nn

from mmskin.errors import Mistake
from mmskin.models.passing.base import FeaturePassing, MixingPassing, Mixture, resize
from mmskin.models.passing.gates import ConvMessage, SumOp
from mmskin.registry import MODELS
from mmskin.testing import PassingContract


class ProjectedPassing(FeaturePassing):
    """Each source is projected once for all its targets, and one layer serves all."""

    def __init__(self, *args, width=4, **options):
        super().__init__(*args, **options)
        for name, (source, target) in self.ends.items():
            self.sources[source] = nn.Conv2d(self.out_channels[source], width, 1)
            self.routes[name] = nn.Conv2d(width, self.out_channels[target], 1)
            self.targets[target] = SumOp(self.out_channels[target], self.identity_init)
        self.shared['layer'] = ConvMessage(width, width)

    def forward(self, inputs, outputs):
        new = dict(outputs)
        for name, (source, target) in self.running(outputs).items():
            seen = self.shared['layer'](self.sources[source](self.brought(name, outputs[source])))
            new[target] = self.targets[target](new[target], resize(self.routes[name](seen), outputs[target]))
        return new


class TestExample(PassingContract):
    """The operator in examples/, which docs/operators.md leads to."""

    @pytest.fixture(autouse=True, scope='class')
    def example(self, request, repository):
        runpy.run_path(str(repository / 'examples' / 'linear_passing.py'))
        request.cls.cfg = dict(type='LinearPassing', kernel_size=3)
        yield
        del MODELS.module_dict['LinearPassing']


class TestHomes(PassingContract):
    """Among others, that whatever does not run is in ``idle_parts``, which this operator does not write."""

    cfg = dict(type=ProjectedPassing)


def idle(operator, *tasks):
    parts = operator.idle_parts(tasks)
    return {name for name, part in operator.named_modules() if any(part is other for other in parts)}


def test_each_home_rests_with_its_routes():
    widths = dict(a=2, b=2, c=2)
    operator = ProjectedPassing(widths, widths, routes=[('a', 'b'), ('c', 'b'), ('b', 'c')])
    assert idle(operator, 'a', 'b', 'c') == set()
    assert idle(operator, 'a', 'b') == {'routes.c2b', 'routes.b2c', 'sources.b', 'sources.c', 'targets.c'}
    assert 'shared.layer' in idle(operator, 'a', 'c')


def test_a_mixed_map_of_its_own_is_a_source():
    """Of routes that only lead from a to b, both maps are read by what is in ``sources``."""

    class Projected(MixingPassing):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.sources.update({task: ConvMessage(width, width) for task, width in self.out_channels.items()})
            self.mix_by(lambda source, target: Resized(), lambda target, own: Mixture(own))

    class Resized(nn.Module):
        def forward(self, source, feature):
            return resize(source, feature)

    widths = dict(a=2, b=2, c=2)
    assert idle(Projected(widths, widths, routes=[('a', 'b')]), 'a', 'b', 'c') == {'sources.c'}


def test_an_unknown_option_is_refused():
    widths = dict(in_channels=dict(a=1, b=1), out_channels=dict(a=1, b=1))
    with pytest.raises(Mistake, match="^ProjectedPassing has no option 'gate'"):
        MODELS.build(dict(type=ProjectedPassing, **widths, gate='ElementwiseGate'))
