"""The command that analyses gates, on a network and images that were never trained or seen."""

import csv
import re
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.evaluation.per_image import PerImageTable
from mmskin.explain.gates import GateTable, Group, draw_maps, draw_rates, summary
from mmskin.models.passing.attention import CrossAttentionPassing
from mmskin.models.passing.base import OPENING, FeaturePassing
from mmskin.registry import MODELS

EVERY = [(route, task) for route in ('cls2seg', 'seg2cls') for task in ('cls', 'seg')]
OPTIONS = [
    'test_dataloader.num_workers=0',
    'test_dataloader.dataset.pipeline.0.size=64',
]


CLASSES = """
from mmengine.config import read_base

with read_base():
    from mmskin.configs.fpm.r18_synthetic import *
from mmskin.models.heads import ClsHead
from mmskin.models.passing.feature_passing import GatedFeaturePassing
from mmskin.models.passing.gates import SpatialGate

model.passing = {'layer3.1': dict(type=GatedFeaturePassing, gate=dict(type=SpatialGate))}
model.tasks.cls.head.type = ClsHead
"""

UNGATED = """
from mmengine.config import read_base

with read_base():
    from mmskin.configs.fpm.r18_synthetic import *

model.passing = {'layer3.1': dict(type='UngatedPassing', identity_init=False)}
"""


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('gates') / 'set'
    SyntheticLesions(seed=3, shape=(48, 64)).write(root, num_train=3, num_val=3, num_test=6)
    return root


def arguments(repository, config, data_root, out):
    cfg = load_config(repository / 'configs' / config)
    checkpoint = out / 'weights.pth'
    out.mkdir(exist_ok=True)
    torch.save(MODELS.build(cfg.model).state_dict(), checkpoint)
    options = ['--cfg-options', *OPTIONS]
    files = [
        str(repository / 'configs' / config),
        str(checkpoint),
        '--data-root',
        str(data_root),
        '--out-dir',
        str(out),
    ]
    return ['gates', *files, *options]


def test_the_command_writes_tables_and_pictures(repository, data_root, tmp_path, capsys):
    assert main(arguments(repository, 'fpm/r18_synthetic.py', data_root, tmp_path / 'out')) == 0
    out = tmp_path / 'out'
    with (out / 'rates.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert all(0 < float(row[f'rate/layer3.1/{route}']) < 1 for row in rows for route in ('cls2seg', 'seg2cls'))
    text = capsys.readouterr().out
    assert '| layer3.1/cls2seg | all images | 6 |' in text
    assert '- **Closing layer3.1/cls2seg moves nothing**' in text  # scales start at zero
    assert all(float(row[f'closing/layer3.1/{route}/{task}']) == 0 for row in rows for route, task in EVERY)
    assert f'- GatedFeaturePassing: {OPENING}.\n' in (out / 'gates.md').read_text()
    assert {'rates.png', 'maps.png', 'gates.md', 'gates.npz', 'results.json'} <= {path.name for path in out.iterdir()}


def test_routes_without_gates_are_closed_as_well(repository, data_root, tmp_path):
    config = tmp_path / 'ungated.py'
    config.write_text(UNGATED)
    out = tmp_path / 'out'
    assert main(arguments(repository, config, data_root, out)) == 0
    with (out / 'rates.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert all(float(row['closing/layer3.1/seg2cls/cls']) > 0 for row in rows)
    assert all(float(row['closing/layer3.1/seg2cls/seg']) == 0 for row in rows)
    assert not any(name.startswith('rate/') for name in rows[0])
    assert '| layer3.1/seg2cls | – | – | – | cls |' in (out / 'gates.md').read_text()
    assert not (out / 'rates.png').exists()


def test_operator_gate_and_head_may_be_classes(repository, data_root, tmp_path):
    """As a config writes them that imports them."""
    config = tmp_path / 'classes.py'
    config.write_text(CLASSES)
    out = tmp_path / 'out'
    assert main(arguments(repository, config, data_root, out)) == 0
    assert f'- GatedFeaturePassing: {OPENING}.\n' in (out / 'gates.md').read_text()
    (passing,) = load_config(out / 'classes.py').model.passing.values()  # as the run has written it down
    assert passing.gate.type.endswith('gates.SpatialGate')


@pytest.mark.parametrize(('smallest', 'largest'), [(0.002, 0.9), (0.1, 0.3)])
def test_ticks_are_short_and_apart(tmp_path, smallest, largest):
    """Of sizes, which span decades or less than one, and of rates that hardly differ."""
    rng = np.random.default_rng(0)
    sizes, rates = np.geomspace(smallest, largest, 40), 0.5 + 0.0001 * rng.normal(size=40)
    group = Group('b.0/cls2seg', 'all images', 40, rates.mean(), (rates.min(), rates.max()))
    table = SimpleNamespace(rates={group.route: rates}, largeness={'lesion size': sizes})
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmskin.explain.gates.save_figure', lambda figure, path: drawn.append(figure))
        draw_rates(table, [group], tmp_path / 'rates.png')
    FigureCanvasAgg(drawn[0]).draw()
    for axis in drawn[0].axes:
        assert axis.xaxis.get_offset_text().get_text() == axis.yaxis.get_offset_text().get_text() == ''
        boxes = [one.get_window_extent() for one in axis.get_xticklabels(which='both') if one.get_text()]
        inside = sorted((box.x0, box.x1) for box in boxes if axis.bbox.x0 <= box.x0 <= axis.bbox.x1)
        assert len(inside) >= 2
        assert all(left[1] < right[0] for left, right in pairwise(inside))


def test_the_table_says_what_its_rates_are():
    """An attention is no gate, and what is not in the table is not explained."""
    passing = {
        'b.0': dict(type='CrossAttentionPassing'),
        'b.1': dict(type='NDDRPassing'),
        'b.2': dict(type='GatedFeaturePassing'),
    }
    lines = summary(passing, ['b.0/cls2seg', 'b.0/seg2cls'], [], []).splitlines()
    assert [line for line in lines if line.startswith('- ')] == [
        f'- CrossAttentionPassing: {CrossAttentionPassing.quantity}.'
    ]


def test_the_documentation_names_the_operators_without_rates(repository):
    text = (repository / 'docs/explain.md').read_text()
    MODELS.import_from_location()
    operators = {name: kind for name, kind in MODELS.module_dict.items() if issubclass(kind, FeaturePassing)}
    without = {name for name, kind in operators.items() if not kind.quantity}
    assert 0 < len(without) < len(operators)
    assert {*re.findall(r'`(\w+Passing)`', text)} == without


def test_a_network_without_passing_is_refused(repository, data_root, tmp_path, capsys):
    assert main(arguments(repository, 'multitask/r18_synthetic.py', data_root, tmp_path / 'out')) == 2
    assert 'this network passes no features' in capsys.readouterr().err


def test_colours_of_an_image_do_not_mix_with_those_of_its_map(tmp_path):
    """The colour bar would say nothing otherwise; it says what its numbers are."""
    paths = [tmp_path / 'red.png', tmp_path / 'green.png']
    for path, color in zip(paths, ((200, 0, 0), (0, 102, 0)), strict=True):  # equally bright
        Image.new('RGB', (8, 8), color).save(path)
    maps = {'b.0/cls2seg': np.linspace(0, 1, 8).reshape(2, 2, 2)[:1].repeat(2, 0)}
    table = GateTable(PerImageTable(['red', 'green'], {}), list(map(str, paths)), maps)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmskin.explain.gates.save_figure', lambda figure, path: drawn.append(figure))
        draw_maps(table, tmp_path / 'maps.png')
    upper, lower, (bar,) = drawn[0].axes[:2], drawn[0].axes[2:4], drawn[0].axes[4:]
    plain, colored = ([axis.images[0].get_array().astype(int) for axis in row] for row in (upper, lower))
    assert abs(plain[0] - plain[1]).max() > 90
    assert abs(colored[0] - colored[1]).max() <= 1
    assert 'rate' in bar.get_ylabel()
