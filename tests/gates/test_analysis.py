"""The command that analyses gates, on a network and images that were never trained or seen."""

import csv

import pytest
import torch

from mmskin.apis.config import load_config
from mmskin.cli import main
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.registry import MODELS

OPTIONS = [
    'test_dataloader.num_workers=0',
    'test_dataloader.dataset.pipeline.0.size=64',
]


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
    assert '| layer3.1/cls2seg | all images | 6 |' in capsys.readouterr().out
    assert {'rates.png', 'maps.png', 'gates.md', 'gates.npz', 'results.json'} <= {path.name for path in out.iterdir()}


def test_a_network_without_gates_is_refused(repository, data_root, tmp_path):
    with pytest.raises(ValueError, match='no operator of this network has gates'):
        main(arguments(repository, 'multitask/r18_synthetic.py', data_root, tmp_path / 'out'))
