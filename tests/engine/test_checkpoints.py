"""What a training leaves in its folder is checked, named when it is damaged, and written by one training at a time."""

import json
import os
import time
from pathlib import Path

import forked
import pytest
import torch
from mmengine.hooks import Hook

from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.engine.stages import run_stages
from mmskin.errors import Mistake
from mmskin.models.tasks.classification import Classification
from mmskin.models.weights import read_checkpoint, read_weights

HOLDER = """
import sys, time
from mmskin.engine.checkpoints import sole_work
with sole_work(sys.argv[1], sys.argv[2:]):
    print('held', flush=True)
    time.sleep(600)
"""


LONG = json.dumps({'checkpoint': 'x' * 300})
FLEXIBLE = {
    'runner_type': 'FlexibleRunner',
    'strategy': dict(type='SingleDeviceStrategy'),
}


class StopInThirdEpoch(Hook):
    def before_train_epoch(self, runner):
        if runner.epoch == 2:
            raise KeyboardInterrupt


@pytest.fixture(scope='module')
def training(repository, data_root, tiny):
    """The config of one stage of three epochs, whose checkpoints all stay, in a work folder."""

    def load(work_dir, **options):
        config = repository / 'configs/fpm/r18_synthetic.py'
        options = {**tiny, 'stages': None, 'train_cfg.max_epochs': 3, **options}
        return load_config(config, str(work_dir), str(data_root), options=options)

    return load


@pytest.fixture(scope='module')
def stopped(training, tmp_path_factory):
    """A work folder with two epochs of three."""
    work_dir = tmp_path_factory.mktemp('stopped')
    cfg = training(work_dir, **{'default_hooks.checkpoint.max_keep_ckpts': 1})
    cfg.custom_hooks.append(dict(type=StopInThirdEpoch))
    with pytest.raises(KeyboardInterrupt):
        run_stages(cfg)
    return work_dir


@pytest.fixture
def folder(stopped, tmp_path):
    """A copy of it."""
    for path in stopped.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def damage(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = bytes(byte ^ 1 for byte in data[middle : middle + 4096])  # more than padding
    path.write_bytes(data)


def test_two_checkpoints_are_there_while_training_and_named(stopped):
    assert sorted(path.name for path in stopped.glob('*.pth')) == ['epoch_1.pth', 'epoch_2.pth']
    names = [Path(line).name for line in (stopped / 'last_checkpoint').read_text().splitlines()]
    assert names == ['epoch_2.pth', 'epoch_1.pth']
    assert 'optimizer' in read_checkpoint(stopped / 'epoch_1.pth')


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(folder, training, tmp_path_factory, capsys):
    straight = run_stages(training(tmp_path_factory.mktemp('straight')))
    damage(folder / 'epoch_2.pth')
    final = run_stages(training(folder), resume=True)
    said = capsys.readouterr().out
    assert f'{folder / "epoch_2.pth"}: damaged' in said and f'continuing from {folder / "epoch_1.pth"}' in said
    expected, found = read_weights(straight), read_weights(final)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert [*folder.glob('*.pth')] == [final]
    assert (folder / 'last_checkpoint').read_text() == str(final)


def test_a_finished_training_with_a_damaged_checkpoint_is_not_called_done(folder, training):
    final = run_stages(training(folder), resume=True)
    assert run_stages(training(folder), resume=True) == final
    damage(final)
    with pytest.raises(Mistake, match=r'epoch_3\.pth: damaged'):
        run_stages(training(folder), resume=True)


def test_checkpoints_of_a_strategy_have_the_hash_of_their_tensors(training, tmp_path):
    cfg = training(tmp_path, **FLEXIBLE)
    cfg.custom_hooks.append(dict(type=StopInThirdEpoch))
    with pytest.raises(KeyboardInterrupt):
        run_stages(cfg)
    path = tmp_path / 'epoch_2.pth'
    whole = torch.load(path, weights_only=False)
    whole['state_dict']['tasks.cls.head.fc.weight'][0, 0] += 1
    torch.save(whole, path)  # with right sums of the archive
    with pytest.raises(ValueError, match=r'epoch_2\.pth: damaged since it was written \(the sha256 of its tensors'):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'default_hooks.checkpoint.filename_tmpl': 'x.pth'}, r"filename_tmpl='x\.pth', without a number"),
        ({'default_hooks.checkpoint.filename_tmpl': '../epoch_{}.pth'}, r"filename_tmpl='\.\./epoch_.* is a path"),
        ({'train_dataloader.dataset.tasks': ['cls']}, 'no image of the training set has gt_sem_seg, .* the task seg'),
        ({'default_hooks.checkpoint.out_dir': 'elsewhere'}, 'in its work folder; leave out_dir'),
        (
            {'train_dataloader.sampler.type': 'InfiniteSampler'},
            'EpochBasedTrainLoop goes .* InfiniteSampler never ends',
        ),
        ({'val_dataloader.sampler.type': 'InfiniteSampler'}, 'ValLoop goes .* InfiniteSampler never ends'),
    ],
)
def test_what_would_lose_checkpoints_learn_nothing_or_never_end_is_refused(options, message, training, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_stages(training(tmp_path, **options))


@pytest.mark.parametrize('options', [{}, FLEXIBLE])
def test_what_a_library_raises_while_it_trains_is_one_line_that_names_the_traceback(options, training, tmp_path):
    odd = {'model.tasks.seg.losses.odd': dict(type='torch.nn.SmoothL1Loss', beta=-1.0)}
    with pytest.raises(Mistake, match=r'r18_synthetic\.py \(traceback in (.+\.log)\): .*negative values') as caught:
        run_stages(training(tmp_path, **options, **odd))
    assert '\n' not in str(caught.value)
    (log,) = tmp_path.glob('*/*.log')
    assert str(log) in str(caught.value)
    assert 'Traceback (most recent call last)' in log.read_text()


class Mute(Classification):
    def match(self, logits, samples):
        return None


def test_a_plugin_at_whose_answer_a_base_class_fails_is_named(training, tmp_path):
    with pytest.raises(Mistake, match=r'r18_synthetic\.py \(traceback in .+\.log\): Mute: TypeError: cannot unpack'):
        run_stages(training(tmp_path, **{'model.tasks.cls.type': Mute}))


class Plugin(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        raise KeyError('mine')


def test_what_a_plugin_raises_while_it_trains_is_as_it_was(training, tmp_path):
    cfg = training(tmp_path)
    cfg.custom_hooks.append(dict(type=Plugin))
    with pytest.raises(KeyError, match='mine'):
        run_stages(cfg)


def test_nothing_to_fall_back_to(folder, training):
    for epoch in (1, 2):
        damage(folder / f'epoch_{epoch}.pth')
    with pytest.raises(ValueError, match=r'epoch_2\.pth: damaged.*epoch_1\.pth: damaged.*without --resume'):
        run_stages(training(folder), resume=True)


@pytest.mark.parametrize('note', [b'', b'\n', b'\xff\xfe\x00\x01', b'x' * 5000, b'{"checkpoint": "\x00"}'])
def test_a_note_that_names_no_checkpoint_is_named(note, folder, training):
    (folder / 'last_checkpoint').write_bytes(note)
    with pytest.raises(ValueError, match='last_checkpoint: empty or damaged'):
        run_stages(training(folder), resume=True)


@pytest.mark.parametrize('note', ['/elsewhere/iter_5.pth', '[]', 'epoch_9.pth'])
def test_a_note_of_another_folder_is_named(note, folder, training):
    (folder / 'last_checkpoint').write_text(note)
    with pytest.raises(ValueError, match=r'no such checkpoint.*last_checkpoint'):
        run_stages(training(folder), resume=True)


def test_a_lost_note_is_no_silent_restart(folder, training, capsys):
    (folder / 'last_checkpoint').unlink()
    with pytest.raises(FileNotFoundError, match='nowhere'):
        run_stages(training(folder, **{'train_dataloader.dataset.data_root': 'nowhere'}), resume=True)
    assert f'{folder}: no last_checkpoint' in capsys.readouterr().out


@pytest.mark.parametrize(
    'mark', ['', '[]', '{}', '{"checkpoint": 5}', '{"checkpoint": "../x.pth"}', LONG, 'null', '\x00']
)
def test_a_mark_that_no_stage_left_is_named(mark, folder, training):
    (folder / 'stage.json').write_text(mark)
    with pytest.raises(ValueError, match=r'stage\.json: damaged, or not written by a finished stage'):
        run_stages(training(folder), resume=True)


@pytest.mark.parametrize('note', ['', '[]', '{}', '{"settings": 5, "processes": 1}', '{"settings": {}}', 'null'])
def test_settings_that_no_training_left_are_named(note, folder, training):
    (folder / 'settings.json').write_text(note)
    with pytest.raises(ValueError, match=r'settings\.json: (damaged|not written by a training)'):
        run_stages(training(folder), resume=True)


def test_a_finished_stage_whose_network_is_gone_is_named(folder, training):
    (folder / 'stage.json').write_text('{"checkpoint": "epoch_3.pth"}')
    with pytest.raises(FileNotFoundError, match=r'epoch_3\.pth: gone'):
        run_stages(training(folder), resume=True)


@pytest.fixture
def holder():
    """Start processes that train or test in folders, as far as others can see; gives each one's process."""
    programs = []

    def hold(*folders, kind='training'):
        programs.append(forked.Program('-c', HOLDER, kind, *folders))
        while programs[-1].output[0].read_text() != 'held\n':
            assert programs[-1].process.is_alive()
            time.sleep(0.02)
        return programs[-1]

    yield hold
    for program in programs:
        program.wait(0)


def test_a_second_test_in_a_folder_is_refused(holder, folder, training):
    """Its numbers would get the checkpoint and the cases of the first."""
    holder(folder, kind='test')
    with pytest.raises(Mistake, match=f'^{folder}: another test works in this folder'):
        evaluate_checkpoint(training(folder), folder / 'epoch_1.pth')


@pytest.mark.parametrize('resume', [False, True])
def test_a_second_training_in_a_folder_is_refused(resume, holder, folder, training):
    before = {path: os.stat(path).st_mtime_ns for path in folder.iterdir()}
    program = holder(folder)
    with pytest.raises(ValueError, match=f'^{folder}: another training works in this folder'):
        run_stages(training(folder), resume)
    with pytest.raises(ValueError, match=f'^{folder}: another training'):  # as a stage of another
        run_stages(training(folder.parent, stages=[dict(name=folder.name)]), resume)
    assert {path: os.stat(path).st_mtime_ns for path in before} == before
    program.process.kill()
    program.process.join()
    run_stages(training(folder), resume=True)


def test_trainings_in_two_folders_do_not_meet(holder, folder, training):
    holder(folder.parent)
    assert run_stages(training(folder), resume=True).parent == folder
