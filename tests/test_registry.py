"""The registries: foreign types are built at home, plugins are found, unknown names are answered."""

import re
import subprocess
import sys
from importlib import import_module

import pytest
import torch
from mmengine.config import Config
from torch import nn

import mmskin.models
from mmskin.errors import Mistake
from mmskin.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS, PluginRegistry
from mmskin.testing.contract import tiny_network

HOMES = {'mmseg.FCNHead': 'mmseg.models', 'mmpretrain.LinearClsHead': 'mmpretrain.models'}
FOREIGN = [
    ('mmseg.FCNHead', dict(in_channels=8, channels=4, num_classes=2), 'loss_decode'),
    ('mmpretrain.LinearClsHead', dict(in_channels=8, num_classes=3), 'loss_module'),
]
PLUGIN = """
from torch import nn
from mmskin.registry import MODELS

@MODELS.register_module()
class {name}(nn.Module):
    def __init__(self, inner=dict(type='ClsHead', in_channels=4, num_classes=3)):
        super().__init__()
        self.inner = MODELS.build(inner)
"""


@pytest.fixture
def forget():
    """Take names out of MODELS again after the test."""
    names = []
    yield names.append
    for name in names:
        MODELS.module_dict.pop(name, None)


@pytest.fixture
def write_plugin(tmp_path, monkeypatch, forget):
    """Write a module on the import path that registers a model."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, file):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(PLUGIN.format(name=name))
        forget(name)

    return write


@pytest.mark.parametrize('as_class', [False, True], ids=['string', 'class'])
@pytest.mark.parametrize(('name', 'arguments', 'loss'), FOREIGN, ids=[row[0] for row in FOREIGN])
def test_foreign_type_finds_its_own_defaults(name, arguments, loss, as_class):
    kind = getattr(import_module(HOMES[name]), name.split('.')[1]) if as_class else name
    head = MODELS.build(dict(type=kind, **arguments))
    home = name.split('.')[0]
    assert type(head).__module__.startswith(f'{home}.')
    assert type(getattr(head, loss)).__module__.startswith(f'{home}.models.losses')


def test_foreign_type_leaves_our_scope_in_place():
    MODELS.build(dict(type='mmseg.FCNHead', in_channels=8, channels=4, num_classes=2))
    assert type(MODELS.build(dict(type='ClsHead', in_channels=4, num_classes=3))).__module__.startswith('mmskin.')


@pytest.mark.parametrize('kind', ['mmengine.ImgDataPreprocessor', 'ImgDataPreprocessor'])
def test_mmengine_type(kind):
    assert type(MODELS.build(dict(type=kind))).__module__.startswith('mmengine.')


@pytest.mark.parametrize(
    ('registry', 'name'),
    [(TRANSFORMS, 'mmcv.RandomFlip'), (HOOKS, 'EMAHook'), (METRICS, 'mmseg.IoUMetric'), (DATASETS, 'ConcatDataset')],
)
def test_foreign_names_are_known(registry, name):
    assert name in registry


def test_class_from_torch_builds():
    assert isinstance(MODELS.build(dict(type=nn.Conv2d, in_channels=1, out_channels=2, kernel_size=1)), nn.Conv2d)


def test_unknown_name_lists_near_matches_and_the_mend():
    with pytest.raises(KeyError) as error:
        MODELS.build(dict(type='GatedFeaturePasing'))
    message = error.value.args[0]
    assert "'GatedFeaturePasing'" in message
    assert 'Near matches: GatedFeaturePassing' in message
    assert 'custom_imports=dict(imports=["your_module"])' in message


def test_unknown_name_near_to_nothing_lists_ours():
    with pytest.raises(KeyError, match='mmskin registers: .*ClassificationMetric'):
        METRICS.build(dict(type='Qqqqqqqq'))


@pytest.mark.parametrize(
    ('name', 'near'), [('mmseg.FCNHad', 'Near matches: mmseg.FCNHead'), ('nosuchpackage.Head', '')]
)
def test_unknown_foreign_name_says_how_to_register(name, near):
    with pytest.raises(KeyError) as error:
        MODELS.build(dict(type=name))
    message = error.value.args[0]
    assert message.startswith(f'No model is registered as {name!r}.')
    assert near in message
    assert 'custom_imports' in message


def test_known_and_unknown_by_in():
    assert 'ClsHead' in MODELS
    assert 'NoSuchHead' not in MODELS


def test_file_dropped_into_a_walked_package_is_found(tmp_path, write_plugin, monkeypatch):
    write_plugin('DroppedModel', 'zoo_of_test/deep/dropped.py')
    for folder in ('zoo_of_test', 'zoo_of_test/deep'):
        (tmp_path / folder / '__init__.py').touch()
    monkeypatch.setattr(MODELS, '_locations', ['zoo_of_test'])
    monkeypatch.setattr(MODELS, '_imported', False)
    assert type(MODELS.build(dict(type='DroppedModel'))).__name__ == 'DroppedModel'


def test_file_dropped_into_mmskin_models_is_found(tmp_path, write_plugin, monkeypatch):
    write_plugin('ModelInside', 'dropped_inside.py')
    monkeypatch.setattr(mmskin.models, '__path__', [*mmskin.models.__path__, str(tmp_path)])
    monkeypatch.setattr(MODELS, '_imported', False)
    assert 'ModelInside' in MODELS


def test_user_plugin_by_custom_imports(write_plugin, tmp_path):
    write_plugin('NamedInAConfig', 'plugin_by_custom_imports.py')
    config = tmp_path / 'config.py'
    config.write_text(
        'custom_imports = dict(imports=["plugin_by_custom_imports"])\nmodel = dict(type="NamedInAConfig")\n'
    )
    model = MODELS.build(Config.fromfile(str(config)).model)
    assert type(model.inner).__name__ == 'ClsHead'


@pytest.mark.parametrize('file', ['plugin_alone.py', 'plugin_package/models.py'])
def test_user_plugin_as_a_class(write_plugin, file):
    write_plugin('GivenAsAClass', file)
    kind = import_module(file[:-3].replace('/', '.')).GivenAsAClass
    assert isinstance(MODELS.build(dict(type=kind)), kind)


WIDTHS = dict(in_channels=dict(a=2, b=2), out_channels=dict(a=2, b=2))
HEAD = dict(type='ASPPHead', in_channels=4)


@pytest.mark.parametrize(
    ('cfg', 'said'),
    [
        (
            dict(type='GatedFeaturePassing', **WIDTHS, gate='ConvMessage'),
            'ConvMessage(in_channels=2, out_channels=2) is not one of the gates; name one that "mmskin list',
        ),
        (dict(type='GatedFeaturePassing', **WIDTHS, message='ElementwiseGate'), 'is not one of the messages'),
        (dict(type='GatedFeaturePassing', **WIDTHS, op='DiceLoss'), 'is not one of the ops'),
        (
            dict(type='Segmentation', head=HEAD, post=[dict(type='ClsHead', in_channels=3)]),
            'ClsHead is no MaskStep; name one that extends',
        ),
        (dict(type='Segmentation', head=dict(type='ScalarGate')), 'ScalarGate() is not one of the heads'),
        (dict(type='Segmentation', head=HEAD, losses=dict(a=dict(type='DWA'))), 'DWA() is not one of the losses'),
        (
            dict(type='Segmentation', head=HEAD, fusion=dict(type='ClsHead')),
            'ClsHead is no Fusion; name one that extends',
        ),
        (dict(type='SplitBackbone', chain=dict(type='SumOp')), 'SumOp is no BlockChain; name one that extends mmskin'),
    ],
)
def test_a_part_of_another_kind_is_refused(cfg, said):
    with pytest.raises(Mistake, match=re.escape(said)):
        MODELS.build(cfg)


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (
            dict(weighting='DiceLoss'),
            'DiceLoss is no Weighting; name one that extends mmskin.models.weighting.weighting',
        ),
        (dict(passing='ConvMessage'), 'ConvMessage is no FeaturePassing'),
        (dict(tasks=dict(cls=dict(type='ClsHead'))), 'ClsHead is no Task'),
        (dict(inputs=dict(age=dict(type='DWA'))), 'DWA is no Input'),
        (dict(backbone=dict(type='ClsHead', in_channels=3)), 'ClsHead(in_channels=3) is not one of the backbones'),
    ],
)
def test_a_part_of_a_network_of_another_kind_is_refused(options, said):
    with pytest.raises(Mistake, match=re.escape(said)):
        tiny_network(**{'passing': 'NoPassing', **options})


def test_list_of_types_becomes_a_sequential():
    """As in mmengine, whose model builder does it."""
    layers = [dict(type=nn.Conv2d, in_channels=1, out_channels=2, kernel_size=1), dict(type=nn.ReLU)]
    assert MODELS.build(layers)(torch.zeros(1, 1, 2, 2)).shape == (1, 2, 2, 2)


@pytest.mark.parametrize('registry', [MODELS, DATASETS, TRANSFORMS, METRICS, HOOKS], ids=lambda r: r.name)
def test_registry_is_a_child_of_mmengines(registry):
    assert isinstance(registry, PluginRegistry)
    assert (registry.scope, registry.parent.scope) == ('mmskin', 'mmengine')
    registry.import_from_location()
    assert registry.module_dict, 'walked and found nothing'


def test_plugins_import_neither_toolbox_nor_a_service():
    code = (
        'import sys; from mmskin.registry import *;'
        '[registry.import_from_location() for registry in (MODELS, DATASETS, METRICS, HOOKS)];'
        "assert not {'mmseg', 'mmpretrain', 'wandb'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_a_class_is_its_own_answer():
    assert MODELS.get(nn.Linear) is nn.Linear
    assert nn.Linear in MODELS


@pytest.mark.parametrize('kind', [['ClsHead'], {'name': 'ClsHead'}, 3])
def test_a_type_that_is_neither_name_nor_class_is_a_mistake(kind):
    with pytest.raises(ValueError, match='is not a callable object'):
        MODELS.build({'type': kind})


@pytest.mark.parametrize(
    ('door', 'arguments', 'said'),
    [
        ('mmskin.config.load_config', [5], 'load_config(path=5): give str | ...Path'),
        ('mmskin.engine.stages.run_stages', ['config.py'], "run_stages(cfg='config.py'): give Config"),
        ('mmskin.engine.evaluate.evaluate_checkpoint', [{}, 'a.pth'], 'evaluate_checkpoint(cfg={}): give Config'),
        (
            'mmskin.evaluation.submission.score_submission',
            [None, 'data'],
            'score_submission(submission=None): give str',
        ),
        ('mmskin.explain.explanation.explain', [5, 'a.jpg'], 'explain(inferencer=5): give LesionInferencer'),
        ('mmskin.explain.gates.analyse_gates', [{}, 'a.pth', 'out'], 'analyse_gates(cfg={}): give Config'),
        ('mmskin.packaging.export.export_model', ['a', 'a.pth', 'a.onnx'], "export_model(cfg='a'): give Config"),
        ('mmskin.packaging.publish.publish_weights', [None, 'a', 'b'], 'publish_weights(cfg=None): give Config'),
        ('mmskin.report.page.write_report', [['tested']], "write_report(folder=['tested']): give str"),
        (
            'mmskin.evaluation.classification.accuracy',
            [[0, 1], [0]],
            'pred_labels (2,) and gt_labels (1,): give arrays',
        ),
        ('mmskin.evaluation.classification.average_precision', [[0.5], 0], 'gt_labels (): give arrays of one shape'),
        ('mmskin.evaluation.segmentation.outline_scores', ['a', 'b'], 'mask=str: give an array of numbers'),
        ('mmskin.evaluation.isic2017.binary_scores', [[0, 1], None], 'scores=NoneType: give an array of numbers'),
    ],
)
def test_a_function_names_an_argument_that_it_cannot_take(door, arguments, said):
    module, _, name = door.rpartition('.')
    with pytest.raises(Mistake, match=re.escape(said).replace(re.escape('...'), '.*')):
        getattr(import_module(module), name)(*arguments)
