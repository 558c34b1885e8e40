"""``mmskin list`` shows whatever is registered."""

import re
import sys

import pytest

from mmskin import registry
from mmskin.apis.plugins import ADDRESS, find_plugins
from mmskin.cli import main

GATE = '''"""Mine."""

from mmskin.registry import MODELS


@MODELS.register_module()
class ListedGate:
    """Lets half of it through.

    After (https://arxiv.org/abs/1234.56789).
    """
'''


@pytest.fixture
def own_gate(tmp_path, monkeypatch):
    (tmp_path / 'listed_gates.py').write_text(GATE)
    monkeypatch.syspath_prepend(tmp_path)
    yield 'listed_gates'
    registry.MODELS.module_dict.pop('ListedGate', None)
    sys.modules.pop('listed_gates', None)


def test_everything_registered_is_listed_once():
    found = [plugin.name for plugin in find_plugins()]
    registries = [
        one for name in registry.__all__ if isinstance(one := getattr(registry, name), registry.PluginRegistry)
    ]
    assert sorted(found) == sorted(name for one in registries for name in one.module_dict)
    assert {'MultiTaskModel', 'LoadImage', 'ISIC2017Dataset', 'SegmentationMetric', 'EpochSeed'} <= {*found}


def test_models_are_split_by_what_they_are():
    kinds = {plugin.name: plugin.kind for plugin in find_plugins() if plugin.module.startswith('mmskin.')}
    expected = {
        'GatedFeaturePassing': 'operators',
        'ElementwiseGate': 'gates',
        'SumOp': 'ops',
        'ConvMessage': 'messages',
        'ClsHead': 'heads',
        'CrossEntropy': 'losses',
        'ResNetChain': 'backbones',
        'SplitBackbone': 'backbones',
        'Classification': 'tasks',
        'DWA': 'weightings',
        'MultiTaskModel': 'networks',
        'FillHoles': 'postprocessing',
        'ISIC2017Dataset': 'datasets',
        'RandomWarp': 'transforms',
        'SegmentationMetric': 'metrics',
        'EpochSeed': 'hooks',
    }
    assert {name: kinds[name] for name in expected} == expected
    assert 'other models' not in kinds.values()


def test_every_plugin_says_what_it_is():
    assert [plugin.name for plugin in find_plugins() if not plugin.summary] == []


def test_one_kind_with_a_plugin_of_ones_own(own_gate, capsys):
    assert main(['list', 'gates', '--import', own_gate]) == 0
    output = capsys.readouterr().out
    assert output.startswith('gates\n')
    assert 'ClsHead' not in output
    assert re.search(
        r'ListedGate +Lets half of it through\. \[listed_gates\]\n +https://arxiv\.org/abs/1234\.56789\n', output
    )


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [(['nope'], 'nope is none of the kinds'), (['--import', 'no_such_module'], 'no_such_module')],
)
def test_what_is_unknown_is_said(arguments, message, capsys):
    assert main(['list', *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    'text', ['x https://a.org/b: c', '(https://a.org/b).', 'https://a.org/b, c', '`https://a.org/b`']
)
def test_an_address_ends_before_punctuation(text):
    assert ADDRESS.search(text).group() == 'https://a.org/b'
