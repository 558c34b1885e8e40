"""A training that is killed and resumed ends with the weights of one that ran through."""

import json
import shutil
import signal
import sys
from pathlib import Path

import forked
import pytest
import torch
from mmengine.hooks import Hook

from mmskin.config import load_config
from mmskin.engine.runner import LesionRunner
from mmskin.engine.stages import run_stages, stage_configs
from mmskin.models.weights import average_weights, read_checkpoint, read_weights, write_checkpoint

# Trains as tools/train.py does, and kills itself in the second epoch of the stage it is told.
KILLED = """
import json, os, signal, sys
from mmengine.hooks import Hook
from mmskin.engine.runner import LesionRunner
from mmskin.engine.stages import run_stages

class Kill(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.cfg.stage == stage and runner.epoch == 1 and batch_idx == 1:
            os.kill(os.getpid(), signal.SIGKILL)

stage, tests, *arguments = sys.argv[1:]
sys.path.append(tests)
from test_resume import load
cfg = load(*arguments[:3], json.loads(arguments[3]))
for hooks in (cfg.custom_hooks, cfg.stages[1].custom_hooks):
    hooks.append(dict(type=Kill))
run_stages(cfg)
"""


def load(config, work_dir, data_root, options):
    """The tiny training with what a resume could get wrong: dropout, an averaged model, persistent workers."""
    options = {
        **options,
        'keep_stages': True,
        'model.tasks.cls.head.dropout': 0.5,
        'train_dataloader.num_workers': 2,
        'train_dataloader.persistent_workers': True,
    }
    cfg = load_config(config, str(work_dir), str(data_root), options=options)
    for hooks in (cfg.custom_hooks, cfg.stages[1].custom_hooks):
        hooks.append(dict(type='EMAHook', momentum=0.1, update_buffers=True))
    return cfg


@pytest.fixture(scope='module')
def config(repository):
    return str(repository / 'configs/fpm/r18_synthetic.py')


@pytest.fixture(scope='module')
def straight(config, data_root, tiny, tmp_path_factory):
    """The work folder of a training that ran through."""
    work_dir = tmp_path_factory.mktemp('straight')
    run_stages(load(config, work_dir, data_root, tiny))
    yield work_dir
    shutil.rmtree(work_dir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('stage', 'done', 'to_come'), [('seg', ['cls'], ['seg', 'joint']), ('joint', ['cls', 'seg'], ['joint'])]
)
def test_killed_in_the_middle_of_a_stage_and_resumed(stage, done, to_come, straight, config, data_root, tiny, tmp_path):
    arguments = [stage, str(Path(__file__).parent), config, str(tmp_path), str(data_root), json.dumps(tiny)]
    killed = forked.run('-c', KILLED, *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert sorted(path.parent.name for path in tmp_path.glob('*/stage.json')) == done
    before = {name: (tmp_path / name / 'epoch_2.pth').stat().st_mtime_ns for name in done}

    final = run_stages(load(config, tmp_path, data_root, tiny), resume=True)

    assert {name: (tmp_path / name / 'epoch_2.pth').stat().st_mtime_ns for name in done} == before  # skipped
    for name in to_come:
        expected = read_weights(straight / name / 'epoch_2.pth')
        found = read_weights(tmp_path / name / 'epoch_2.pth')
        assert found.keys() == expected.keys()
        assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
    assert final == tmp_path / 'joint/epoch_2.pth'


def test_stage_seg_starts_from_the_cls_branch_and_leaves_the_rest(straight):
    before, after = read_weights(straight / 'cls/epoch_2.pth'), read_weights(straight / 'seg/epoch_2.pth')
    fixed = [key for key in before if key.startswith(('backbone.shared.', 'backbone.branches.cls.', 'tasks.cls.'))]
    assert any('running_mean' in key for key in fixed)
    assert all(torch.equal(before[key], after[key]) for key in fixed)
    trained = [key for key in before if key.startswith('backbone.branches.seg.') and key.endswith('conv1.weight')]
    assert trained
    for key in trained:
        start = before[key.replace('.seg.', '.cls.')]
        assert (after[key] - start).norm() < (
            after[key] - before[key]
        ).norm()  # nearer to ClsNet's weights than to its own


def test_resuming_a_finished_training_changes_nothing(straight, config, data_root, tiny):
    before = (straight / 'joint/epoch_2.pth').stat().st_mtime_ns
    final = run_stages(load(config, straight, data_root, tiny), resume=True)
    assert final == straight / 'joint/epoch_2.pth'
    assert final.stat().st_mtime_ns == before


def test_finished_stages_keep_weights_alone_and_the_last_epoch(straight):
    assert sorted(str(path.relative_to(straight)) for path in straight.rglob('*.pth')) == [
        f'{name}/epoch_2.pth' for name in ('cls', 'joint', 'seg')
    ]
    for name in ('cls', 'seg', 'joint'):
        checkpoint = read_checkpoint(straight / name / 'epoch_2.pth')
        assert checkpoint.keys() >= {'state_dict', 'meta', 'message_hub'}
        assert not checkpoint.keys() & {'optimizer', 'ema_state_dict'}


def test_the_demo_keeps_the_last_stage_alone_and_resumes(config, data_root, tiny, tmp_path):
    options = {**tiny, 'train_cfg.max_epochs': 1}
    final = run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert list(tmp_path.rglob('*.pth')) == [final]
    weights = read_weights(final)
    (tmp_path / 'joint/stage.json').unlink()  # as a kill between the last checkpoint and the mark leaves it
    assert run_stages(load_config(config, str(tmp_path), str(data_root), options=options), resume=True) == final
    again = read_weights(final)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_history_that_was_asked_for_is_kept_without_optimizers(config, data_root, tiny, tmp_path):
    options = {**tiny, 'stages': None, 'train_cfg.max_epochs': 3, 'default_hooks.checkpoint.max_keep_ckpts': 3}
    run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_2.pth', 'epoch_3.pth']
    assert all('optimizer' not in read_checkpoint(path) for path in tmp_path.glob('*.pth'))


def test_a_mistyped_command_costs_no_training(config, tmp_path):
    for stage in ('cls', 'seg', 'joint'):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / 'stage.json').write_text('{"checkpoint": "epoch_2.pth"}')
    with pytest.raises(FileNotFoundError, match='nowhere'):
        run_stages(load_config(config, str(tmp_path), str(tmp_path / 'nowhere')))
    assert len(list(tmp_path.glob('*/stage.json'))) == 3


def test_training_again_forgets_what_a_resume_would_skip(config, data_root, tiny, tmp_path, monkeypatch):
    (tmp_path / 'joint').mkdir()
    for name in ('joint/stage.json', 'joint/last_checkpoint', 'last_checkpoint'):
        (tmp_path / name).write_text('old')
    monkeypatch.setattr(LesionRunner, 'train', lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_stages(load_config(config, str(tmp_path), str(data_root), options=tiny))
    assert [path for path in tmp_path.rglob('*') if path.name in ('stage.json', 'last_checkpoint')] == []


def test_a_mistyped_start_costs_no_earlier_training(config, data_root, tiny, tmp_path):
    (tmp_path / 'cls').mkdir()
    (tmp_path / 'cls' / 'stage.json').write_text('old')
    options = {**tiny, 'load_from': 'nowhere.pth'}
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
        run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert (tmp_path / 'cls' / 'stage.json').read_text() == 'old'


@pytest.mark.parametrize('num_classes', [2, 4])
def test_a_network_that_does_not_fit_the_data_costs_no_earlier_training(num_classes, config, data_root, tiny, tmp_path):
    """Too many outputs would show at the end of an epoch, too few in torch."""
    (tmp_path / 'cls').mkdir()
    (tmp_path / 'cls' / 'stage.json').write_text('old')
    options = {**tiny, 'model.tasks.cls.head.num_classes': num_classes}
    with pytest.raises(ValueError, match=f'the task cls has {num_classes} classes, and the data set 3'):
        run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert (tmp_path / 'cls' / 'stage.json').read_text() == 'old'


def test_a_missing_library_costs_no_earlier_training(config, data_root, tiny, tmp_path, monkeypatch):
    (tmp_path / 'cls').mkdir()
    (tmp_path / 'cls' / 'stage.json').write_text('old')
    monkeypatch.setitem(sys.modules, 'torchjd.aggregation', None)
    options = {**tiny, 'model.weighting': dict(type='PCGrad')}
    with pytest.raises(ImportError, match='torchjd'):
        run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert (tmp_path / 'cls' / 'stage.json').read_text() == 'old'


def test_one_stage_run(config, data_root, tiny, tmp_path):
    options = {**tiny, 'stages': None, 'train_cfg.max_epochs': 1}
    final = run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert final == tmp_path / 'epoch_1.pth'
    assert (tmp_path / 'last_checkpoint').read_text() == str(final)
    checkpoint = read_checkpoint(final)
    checkpoint['state_dict']['backbone.branches.seg.layer4.1.conv1.weight'] += 1
    write_checkpoint(final, checkpoint)
    with pytest.raises(ValueError, match=r'epoch_1\.pth: has other weights than the stage ended with; restore it'):
        run_stages(load_config(config, str(tmp_path), str(data_root), options=options), resume=True)


def test_only_the_first_stage_starts_from_load_from(config, tmp_path):
    cfg = load_config(config, str(tmp_path), options={'load_from': 'pretrained.pth'})
    assert [stage.load_from for stage in stage_configs(cfg)] == ['pretrained.pth', None, None]


def test_a_stage_that_averages_over_seeds_resumes_with_the_missing_one(config, data_root, tiny, tmp_path):
    options = {**tiny, 'train_cfg.max_epochs': 1, 'stages': None, 'average_of': 2}
    final = run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert final == tmp_path / 'average.pth'
    mean, *members = [read_weights(tmp_path / name) for name in ('average.pth', '0/epoch_1.pth', '1/epoch_1.pth')]
    trained = 'backbone.branches.seg.layer4.1.conv1.weight'
    assert not torch.equal(members[0][trained], members[1][trained])
    for key in mean:
        expected = (members[0][key] + members[1][key]) / 2 if mean[key].is_floating_point() else members[0][key]
        assert torch.equal(mean[key], expected), key

    for lost in ('average.pth', '1/stage.json', '1/last_checkpoint'):
        (tmp_path / lost).unlink()
    before = (tmp_path / '0/epoch_1.pth').stat().st_mtime_ns
    run_stages(load_config(config, str(tmp_path), str(data_root), options=options), resume=True)
    assert (tmp_path / '0/epoch_1.pth').stat().st_mtime_ns == before
    again = read_weights(tmp_path / 'average.pth')
    assert all(torch.equal(again[key], mean[key]) for key in mean)


class StopInJoint(Hook):
    def before_train_epoch(self, runner):
        if runner.cfg.stage == 'joint' and runner.epoch == 1:
            raise KeyboardInterrupt


def test_an_averaged_stage_whose_weights_were_dropped_is_skipped(config, data_root, tiny, tmp_path):
    stages = [dict(name='cls', average_of=2, model=dict(use_passing=False)), dict(name='seg'), dict(name='joint')]
    options = {**tiny, 'stages': stages, 'keep_stages': False}
    straight = run_stages(load_config(config, str(tmp_path / 'straight'), str(data_root), options=options))
    cfg = load_config(config, str(tmp_path / 'killed'), str(data_root), options=options)
    cfg.custom_hooks.append(dict(type=StopInJoint))
    with pytest.raises(KeyboardInterrupt):
        run_stages(cfg)
    assert {path.parent.name for path in (tmp_path / 'killed').rglob('*.pth')} == {'seg', 'joint'}
    resumed = run_stages(load_config(config, str(tmp_path / 'killed'), str(data_root), options=options), resume=True)
    assert [*(tmp_path / 'killed').rglob('*.pth')] == [resumed]
    expected, weights = read_weights(straight), read_weights(resumed)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_networks_of_two_configs_are_not_averaged(tmp_path):
    for width in (2, 3):
        torch.save(torch.nn.Linear(width, 2).state_dict(), tmp_path / f'{width}.pth')
    with pytest.raises(ValueError, match=r'3\.pth does not hold the same weights as .*2\.pth'):
        average_weights([tmp_path / '2.pth', tmp_path / '3.pth'])
