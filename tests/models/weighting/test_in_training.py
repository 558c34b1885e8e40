"""A weighting in a training as a user starts it: one line of the config, stages, an averaged model, a resume."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from narrow import NARROW

from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.stages import run_stages
from mmskin.models.weights import read_weights


@pytest.fixture(scope='module')
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'synthetic'
    SyntheticLesions(seed=5, shape=(48, 64)).write(root, num_train=8, num_val=2, num_test=2)
    return root


@pytest.fixture(scope='module')
def start(repository, data_root):
    """A function that trains the demo's joint stage, two steps an epoch, and gives the work folder."""

    def train(work_dir, weighting, epochs, resume=False, average=True, **options):
        sizes = {f'{name}_dataloader.dataset.pipeline.0.size': 48 for name in ('train', 'val')}
        loaders = {f'{name}_dataloader.{key}': value for name in ('train', 'val') for key, value in LOADER.items()}
        cfg = load_config(
            str(repository / 'configs/fpm/r18_synthetic.py'),
            str(work_dir),
            str(data_root),
            options={
                **NARROW,
                **sizes,
                **loaders,
                'train_dataloader.batch_size': 4,
                'model.weighting': weighting,
                'train_cfg.max_epochs': epochs,
                'train_cfg.val_interval': 10,
                'default_hooks.logger.interval': 1,
                'default_hooks.checkpoint.max_keep_ckpts': -1,
                'stages': None,
                **options,
            },
            amp=True,
        )
        if average:
            cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.1, update_buffers=True))
        run_stages(cfg, resume=resume)
        return Path(work_dir)

    return train


LOADER = {'num_workers': 0, 'persistent_workers': False}


def logged(work_dir):
    """The training lines of the log."""
    lines = map(json.loads, next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines())
    training = (line for line in lines if 'train/loss' in line)
    return [{name.removeprefix('train/'): value for name, value in line.items()} for line in training]


@pytest.mark.slow
@pytest.mark.parametrize('name', ['DWA', 'GradNorm', 'PCGrad'])
def test_resumes_as_if_it_had_run_through(name, start, tmp_path):
    """In bfloat16, with gradients accumulated and clipped and an averaged model."""
    options = {'optim_wrapper.accumulative_counts': 2, 'optim_wrapper.clip_grad': dict(max_norm=5.0)}
    straight = start(tmp_path / 'straight', dict(type=name), 4, **options)
    folder = tmp_path / 'stopped'
    folder.mkdir()
    shutil.copy(straight / 'epoch_3.pth', folder)
    (folder / 'last_checkpoint').write_text('epoch_3.pth')
    start(folder, dict(type=name), 4, resume=True, **options)
    expected, found = (read_weights(path / 'epoch_4.pth') for path in (straight, folder))
    assert [key for key in expected if not torch.equal(found[key].nan_to_num(), expected[key].nan_to_num())] == []
    assert any(key.startswith('weighting.') for key in expected)


@pytest.mark.slow
def test_log_has_the_losses_as_they_are_and_the_weights(start, tmp_path):
    lines = logged(start(tmp_path, dict(type='FixedWeights', weights=dict(cls=0.5, seg=3)), 1))
    assert len(lines) == 2
    for line in lines:
        parts = line['cls/loss_ce'], line['seg/loss_wce'] + line['seg/loss_dice']
        assert (line['weight/cls'], line['weight/seg']) == (0.5, 3)
        assert line['loss'] == pytest.approx(0.5 * parts[0] + 3 * parts[1], rel=1e-4)


@pytest.mark.slow
def test_a_second_stage_with_the_same_tasks_starts_afresh(start, tmp_path):
    """Its epochs count from 0 again: DWA has nothing to go by before the third, whatever the first stage had learnt."""
    stages = [dict(name='one'), dict(name='two')]
    start(tmp_path, dict(type='DWA'), 3, average=False, stages=stages)
    for stage in ('one', 'two'):
        weights = [line['weight/cls'] for line in logged(tmp_path / stage)]
        assert weights[:4] == [1] * 4
        assert all(weight != 1 for weight in weights[4:])
