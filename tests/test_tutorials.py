"""What docs/tutorials/ tells a user to do is done here, with the code as it stands there, on very small images."""

import json
import math
import re
import runpy

import numpy as np
import pytest
import torch

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.datasets.transforms.loading import PackTaskSample
from mmskin.engine.evaluate import evaluate_checkpoint as run_test
from mmskin.engine.stages import run_stages, stage_configs
from mmskin.models.passing.feature_passing import GatedFeaturePassing
from mmskin.registry import MODELS, TRANSFORMS
from mmskin.testing.contract import tiny_batch

TINY = {
    **{f'{name}_dataloader.dataset.pipeline.0.size': 48 for name in ('val', 'test')},
    **{f'{name}_dataloader.num_workers': 0 for name in ('train', 'val', 'test')},
    **{f'{name}_dataloader.persistent_workers': False for name in ('train', 'val')},
    'train_dataloader.batch_size': 8,
    'default_hooks.logger.interval': 1,
}


@pytest.fixture
def blocks(repository):
    """The Python blocks of a tutorial, by its name."""

    def read(name):
        text = (repository / 'docs' / 'tutorials' / f'{name}.md').read_text()
        found = re.findall(r'```python\n(.*?)```', text, flags=re.DOTALL)
        assert found
        return found

    return read


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's folder, in which the commands are called and data/synthetic lies."""
    monkeypatch.chdir(tmp_path)
    paint('data/synthetic')
    return tmp_path


def paint(data_root, seed=5):
    SyntheticLesions(seed, shape=(48, 64)).write(data_root, num_train=16, num_val=4, num_test=5)


def logged(work_dir):
    """What the loggers of a stage wrote, by name: a list of numbers each."""
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    series = {}
    for line in map(json.loads, path.read_text().splitlines()):
        for name, value in line.items():
            series.setdefault(name.removeprefix('train/'), []).append(value)
    return series


def test_the_second_classification_is_the_one_that_comes_with_mmskin(blocks, repository):
    assert (repository / 'configs/multitask/sex_r18_synthetic.py').read_text().endswith(blocks('add_a_task')[0])


@pytest.fixture
def brought(repository, folder):
    """The files of docs/bring_your_own.md, in the user's folder."""
    text = (repository / 'docs/bring_your_own.md').read_text()
    files = re.findall(r'```python\n(.*?)```', text, flags=re.DOTALL)
    for name, content in zip(('my_network.py', 'my_suite.py'), files, strict=True):
        (folder / name).write_text(content)
    return folder


def test_what_is_brought_trains(brought):
    """A small ConvNeXt of the same stages in the place of the tiny one."""
    cfg = load_config('my_network.py', options={'model.backbone.chain.model': 'convnext_atto'})
    model = MODELS.build(stage_configs(cfg)[-1].model).train()
    samples = tiny_batch(2, (64, 64))
    for sample in samples[1]:
        sample.gt_sex, sample.inputs = torch.tensor([1]), dict(age=50)
    model.parse_losses(model(*samples, mode='loss'))[0].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.long
def test_what_is_brought_in_five_folds(brought):
    small = {'model.backbone.chain.model': 'convnext_atto', **TINY}
    small |= {f'{part}_dataloader.dataset.pipeline.0.size': 64 for part in ('train', 'val', 'test')}
    options = [f'{key}={value}' for key, value in small.items()]
    assert main(['benchmark', 'my_suite.py', '--data-root', 'data/synthetic', '--cfg-options', *options]) == 0
    report = (brought / 'work_dirs/benchmarks/my_suite/my_suite.md').read_text()
    assert '| with passing | 1 | 0.' in report
    assert '| without | 1 | 0.' in report


@pytest.mark.long
def test_a_task_that_measures(repository, folder):
    """All stages are trained, and the test has the third task's numbers, with augmented views too."""
    options = {**TINY, 'train_dataloader.dataset.pipeline.0.size': 48, 'train_cfg.max_epochs': 1}
    config = repository / 'configs/multitask/three_tasks_r18_synthetic.py'
    cfg = load_config(config, 'work_dirs/three_tasks', options=options)
    checkpoint = run_stages(cfg)
    done = {note.parent.name for note in (folder / 'work_dirs/three_tasks').glob('*/stage.json')}
    assert done == {'cls', 'seg', 'shape', 'joint'}
    assert {'cls/loss_ce', 'seg/loss_dice', 'shape/loss_smooth_l1'} <= {*logged(checkpoint.parent)}
    cfg.tta = True
    run_test(cfg, checkpoint)
    results = json.loads((folder / 'work_dirs/three_tasks/results.json').read_text())
    names = [f'shape/{score}_{value}' for score in ('MAE', 'pearson') for value in ('diameter', 'irregularity')]
    assert all(math.isfinite(results[name]) for name in ('seg/JA', 'cls/AC', *names))
    header = (folder / 'work_dirs/three_tasks/per_image.csv').read_text().split('\n', 1)[0]
    assert {'shape/gt_diameter', 'shape/pred_diameter_px', 'seg/JA'} <= {*header.split(',')}


def test_routes_to_and_from_the_third_task(blocks, folder):
    routes, base = blocks('add_a_task')[1], 'from mmskin.configs.multitask.sex_r18_synthetic import *'
    config = f'from mmengine.config import read_base\nwith read_base():\n    {base}\n'
    found = []
    for text in (config, config + routes):
        (folder / 'with_sex.py').write_text(text)
        model = MODELS.build(load_config('with_sex.py').model)
        (passing,) = (module for module in model.modules() if isinstance(module, GatedFeaturePassing))
        found.append({*passing.routes})
    every = {'cls2seg', 'seg2cls', 'cls2sex', 'sex2cls', 'seg2sex', 'sex2seg'}
    assert found == [every, every - {'cls2sex', 'sex2cls'}]


def test_numbers_of_ones_own(blocks, tmp_path):
    (tmp_path / 'mean_color.py').write_text(blocks('add_a_task')[-1])
    runpy.run_path(str(tmp_path / 'mean_color.py'))
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = [255, 51, 0]
    measured = TRANSFORMS.build(dict(type='MeasureColor'))(dict(img=image))
    sample = PackTaskSample()(measured)['data_samples']
    torch.testing.assert_close(sample.gt_values, torch.tensor([0.5, 0.1, 0.0]))
    task = dict(type='Regression', head=dict(type='ClsHead', in_channels=4, num_classes=3), mean=[0.5] * 3)
    losses = dict(smooth_l1=dict(type='torch.nn.SmoothL1Loss'))
    assert MODELS.build(dict(task, losses=losses)).loss((torch.zeros(1, 4, 1, 1),), [sample])['loss_smooth_l1'] > 0


@pytest.fixture
def two_folders(folder):
    """One with masks only and one with diagnoses only."""
    for name, part in (('outlined', 'Part3_GroundTruth.csv'), ('diagnosed', 'Part1_GroundTruth')):
        paint(f'data/{name}', seed=len(name))
        lacking = folder / 'data' / name / f'ISIC-2017_Training_{part}'
        lacking.rename(folder / f'{name}_{part}')
    return folder


@pytest.mark.long
def test_partly_labelled_data(blocks, two_folders):
    """One stage of all tasks: both losses fall, and every parameter learns."""
    (two_folders / 'partly_labelled.py').write_text(blocks('own_data')[-1])
    cfg = load_config('partly_labelled.py', options={**TINY, 'train_cfg.max_epochs': 5})
    for part in cfg.train_dataloader.dataset.datasets:
        part.pipeline[0].size = 48
    cfg.stages = []
    torch.manual_seed(0)
    torch.save(MODELS.build(cfg.model).state_dict(), 'start.pth')
    cfg.load_from = 'start.pth'
    cfg.optim_wrapper.optimizer.weight_decay = 0.0  # which moves parameters without a gradient, too
    checkpoint = run_stages(cfg)
    start, end = torch.load('start.pth'), torch.load(checkpoint, weights_only=False)['state_dict']
    names = [name for name, _ in MODELS.build(cfg.model).named_parameters()]
    assert [name for name in names if torch.equal(start[name], end[name])] == []
    series = logged(checkpoint.parent)
    assert all(map(math.isfinite, series['loss']))
    for name in ('cls/loss_ce', 'seg/loss_dice'):
        assert sum(series[name][-4:]) < sum(series[name][:4])
