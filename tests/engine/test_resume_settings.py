"""What a resumed training is told is followed, or refused by name."""

import json
import math
import shutil

import pytest
import torch
from mmengine.hooks import Hook

from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.engine.resume import changes, former_stages, refuse_other_stages, settings_of
from mmskin.engine.stages import run_stages
from mmskin.errors import Mistake
from mmskin.files import write_json
from mmskin.models.weights import read_checkpoint, read_weights

STEPS = 3  # of an epoch


class Interrupt(Hook):
    """Ends the training after an epoch, as Ctrl-C does; and notes what each step was made with."""

    epochs = 99
    steps: list

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        group = runner.optim_wrapper.param_groups[0]
        Interrupt.steps.append((group['lr'], group['weight_decay']))

    def before_train_epoch(self, runner):
        if runner.epoch == Interrupt.epochs:
            raise KeyboardInterrupt


@pytest.fixture
def train(repository, data_root, tiny, tmp_path):
    """Train the narrow network's one stage in a folder; gives the rate and weight decay of each step."""
    options = {
        **tiny,
        'stages': None,
        'visualizer': None,
        'train_cfg.val_interval': 99,
    }
    options |= {'param_scheduler.0.T_max': 2, 'param_scheduler.0.end': 2}

    def train(folder='run', resume=False, epochs=99, **more):
        Interrupt.epochs, Interrupt.steps = epochs, []
        config = repository / 'configs/fpm/r18_synthetic.py'
        cfg = load_config(config, str(tmp_path / folder), str(data_root), options={**options, **more})
        cfg.custom_hooks.append(dict(type=Interrupt))
        if epochs == 99:
            run_stages(cfg, resume)
        else:
            with pytest.raises(KeyboardInterrupt):
                run_stages(cfg, resume)
        return Interrupt.steps

    return train


LONGER = {'train_cfg.max_epochs': 4, 'param_scheduler.0.T_max': 4, 'param_scheduler.0.end': 4}
SHORT = {'train_cfg.max_epochs': 1}
OTHER = {**LONGER, 'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.weight_decay': 0.5}


def cosine(rate, epochs, steps):
    """As CosineAnnealingLR has it, iteration by iteration, down to 1e-5."""
    return [1e-5 + (rate - 1e-5) * (1 + math.cos(math.pi * step / (epochs * STEPS))) / 2 for step in steps]


def test_an_interrupted_training_follows_schedule_rate_decay_and_epochs(train, tmp_path):
    first = train(epochs=1)
    assert first == [(pytest.approx(rate), 0.02) for rate in cosine(1e-3, 2, range(3))]
    second = train(resume=True, **OTHER)
    assert [decay for _, decay in second] == [0.5] * 9
    straight = train('straight', **OTHER)
    assert [rate for rate, _ in second] == [rate for rate, _ in straight[3:]]
    saved = (tmp_path / 'run/r18_synthetic.py').read_text()
    assert all(setting in saved for setting in ('lr=0.0001', 'weight_decay=0.5', 'T_max=4', 'max_epochs=4'))
    texts = [path.read_text() for path in (tmp_path / 'run').glob('*/*.log')]
    assert any('optim_wrapper.optimizer.lr (0.001 before, 0.0001 now)' in text for text in texts)


def test_a_finished_training_with_more_epochs_goes_on(train, tmp_path):
    train()
    assert not train(resume=True)
    steps = train(resume=True, **LONGER)
    assert len(steps) == 2 * STEPS
    assert (tmp_path / 'run/last_checkpoint').read_text().endswith('epoch_4.pth')
    assert json.loads((tmp_path / 'run/stage.json').read_text())['checkpoint'] == 'epoch_4.pth'
    assert read_checkpoint(tmp_path / 'run/epoch_4.pth')['meta']['epoch'] == 4
    assert not train(resume=True, **LONGER)


def test_goes_on_after_a_kill_in_the_added_epochs(train, tmp_path):
    train()
    train(resume=True, epochs=3, **LONGER)
    assert not (tmp_path / 'run/stage.json').exists()
    assert len(train(resume=True, **LONGER)) == STEPS


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'optim_wrapper.optimizer.type': 'Adam'}, r'optim_wrapper\.optimizer\.type \(AdamW before, Adam now\)'),
        ({'train_cfg': dict(by_epoch=False, max_iters=9)}, r'train_cfg\.by_epoch \(True before, False now\)'),
        ({'load_from': 'other.pth'}, r'load_from \(None before, other\.pth now\)'),
        ({'model.weighting': dict(type='UncertaintyWeights')}, r'another network than the config: .*weighting\.'),
        ({'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0)}, 'optimizer has other parameters'),
    ],
)
def test_what_a_training_under_way_can_no_longer_change_is_refused_by_name(options, words, train, tmp_path):
    train(epochs=1)
    saved = (tmp_path / 'run/r18_synthetic.py').read_text()
    before = (tmp_path / 'run/epoch_1.pth').read_bytes()
    with pytest.raises(Mistake, match=words):
        train(resume=True, **options)
    assert (tmp_path / 'run/r18_synthetic.py').read_text() == saved
    assert (tmp_path / 'run/epoch_1.pth').read_bytes() == before
    assert len(train(resume=True)) == STEPS


def test_what_a_finished_training_can_no_longer_change_is_refused_by_name(train):
    train(**{'train_cfg.max_epochs': 1})
    with pytest.raises(Mistake, match=r'has finished, and can no longer change .*\.lr \(0\.001 before'):
        train(resume=True, **{'train_cfg.max_epochs': 1, 'optim_wrapper.optimizer.lr': 1.0})


def test_other_hooks_are_reported(train, tmp_path, capsys):
    timed = {'custom_hooks.1': dict(type='IterTimerHook')}
    train(epochs=1)
    train(resume=True, **timed)
    texts = [path.read_text() for path in (tmp_path / 'run').glob('*/*.log')]
    assert any('before, IterTimerHook now)' in text for text in texts)
    train(resume=True)
    assert 'has finished, so other hooks change nothing: custom_hooks.1' in capsys.readouterr().out


def test_a_runner_that_follows_the_checkpoint_alone_refuses(train):
    flexible = {
        'runner_type': 'FlexibleRunner',
        'strategy': dict(type='SingleDeviceStrategy'),
    }
    train(epochs=1, **flexible)
    with pytest.raises(Mistake, match=r'can no longer change optim_wrapper\.optimizer\.lr \(0\.001 before'):
        train(resume=True, **flexible, **{'optim_wrapper.optimizer.lr': 1.0})


def test_a_runner_that_follows_the_checkpoint_alone_goes_on_and_not_beyond(train, tmp_path):
    flexible = {
        'runner_type': 'FlexibleRunner',
        'strategy': dict(type='SingleDeviceStrategy'),
        'model.tasks.cls.head.dropout': 0.0,
        'train_cfg.max_epochs': 2,
    }
    whole = train('whole', **flexible)
    begun = train(epochs=1, **flexible)
    assert begun + train(resume=True, **flexible) == whole
    weights = [read_weights(tmp_path / folder / 'epoch_2.pth') for folder in ('whole', 'run')]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())
    with pytest.raises(Mistake, match='has finished, and FlexibleRunner cannot continue .*train in another --work-dir'):
        train(resume=True, **{**flexible, 'train_cfg.max_epochs': 3})


def test_shards_are_not_resumed(train, tmp_path):
    """MMEngine hands the optimizer's state to PyTorch in the wrong place; what is there is named, and kept."""
    train(epochs=1)
    sharded = {'runner_type': 'FlexibleRunner', 'strategy': dict(type='FSDPStrategy')}
    with pytest.raises(Mistake, match=r'FSDPStrategy cannot bring back .*load_from=\S*epoch_1\.pth'):
        train(resume=True, **sharded)
    assert (tmp_path / 'run/epoch_1.pth').is_file()


def test_mixed_precision_from_here_on_is_said(train, tmp_path):
    train(epochs=1)
    train(resume=True, amp=True)
    logs = [path.read_text() for path in (tmp_path / 'run').glob('*/*.log')]
    assert any('resumed with other settings: amp (None before, True now)' in log for log in logs)
    with pytest.raises(Mistake, match=r'has finished, and can no longer change amp \(True before, None now\)'):
        train(resume=True)


def test_fewer_epochs_than_there_were_are_refused(train):
    train(epochs=2, **LONGER)
    with pytest.raises(Mistake, match='has 2 epochs, and train_cfg says 1'):
        train(resume=True, **{**LONGER, 'train_cfg.max_epochs': 1})


def test_a_seed_is_followed(train, tmp_path):
    train(epochs=1)
    train(resume=True, randomness=dict(seed=7))
    assert read_checkpoint(tmp_path / 'run/epoch_2.pth')['meta']['seed'] == 7


def test_another_batch_size_is_followed_and_said(train, tmp_path):
    """The schedule is by epochs: after one of two it is half through, whatever the steps are."""
    train(epochs=1)
    steps = train(resume=True, **{'train_dataloader.batch_size': 2})
    assert len(steps) == 6
    assert steps[0][0] == pytest.approx((1e-3 + 1e-5) / 2)
    assert any('an epoch has 6 steps now' in path.read_text() for path in (tmp_path / 'run').glob('*/*.log'))


def test_labels_that_were_corrected_in_between_are_said(train, data_root, tmp_path):
    own = {'train_dataloader.dataset.data_root': str(shutil.copytree(data_root, tmp_path / 'data'))}
    train(epochs=1, **own)
    train(epochs=1, resume=True, **own)
    logs = [*(tmp_path / 'run').glob('*/*.log')]
    assert not any('the training set has other' in path.read_text() for path in logs)
    table = tmp_path / 'data/ISIC-2017_Training_Part3_GroundTruth.csv'
    table.write_text(table.read_text().replace(',1.0,0.0', ',0.0,1.0'))
    train(resume=True, **own)
    assert any(
        'the training set has other images, labels' in path.read_text() for path in (tmp_path / 'run').glob('*/*.log')
    )


def test_another_number_of_processes_is_said(train, tmp_path):
    train(epochs=1)
    note = json.loads((tmp_path / 'run/settings.json').read_text())
    assert note['processes'] == 1
    (tmp_path / 'run/settings.json').write_text(json.dumps({**note, 'processes': 2}))
    train(resume=True)
    logs = [path.read_text() for path in (tmp_path / 'run').glob('*/*.log')]
    assert any('resumed in 1 process, and begun in 2' in log and 'results will differ' in log for log in logs)


def test_a_rate_that_follows_the_validation_goes_on_and_does_not_change(train):
    plateau = dict(type='ReduceOnPlateauLR', monitor='cls/AC', rule='greater', patience=0, factor=0.1)
    options = {'param_scheduler': [plateau], 'train_cfg.val_interval': 1, 'train_cfg.max_epochs': 4}
    before = train(epochs=3, **options)
    assert before[-1][0] < before[0][0] == 1e-3
    with pytest.raises(Mistake, match=r'param_scheduler\.0\.factor \(0\.1 before, 0\.5 now\)'):
        train(resume=True, **{**options, 'param_scheduler': [{**plateau, 'factor': 0.5}]})
    assert train(resume=True, **options)[0] == before[-1]


def test_stages_in_another_order_or_without_their_start_are_refused(train, tmp_path):
    train(stages=named('ab'), **SHORT)
    other = {
        'nab': "run/a: this stage was trained first, and would be after 'n' now",
        'anb': "run/b: this stage was trained after 'a', and would be after 'n' now",
        'b': "run/b: this stage was trained after 'a', and would be first now",
        '': r'trained in stages \(a, b\), and the config has none',
    }
    for names, words in other.items():
        with pytest.raises(Mistake, match=words):
            train(resume=True, stages=named(names))
    assert train(resume=True, stages=named('ab'), **SHORT) == []
    shutil.rmtree(tmp_path / 'run/a')
    with pytest.raises(Mistake, match='run/b: was trained after .*run/a, which is gone'):
        train(resume=True, stages=named('ab'), **SHORT)


def test_training_again_forgets_the_stages_that_the_config_no_longer_has(train):
    train(stages=named('ab'), **SHORT)
    train(stages=named('a'), **SHORT)
    assert len(train(resume=True, stages=named('ab'), **SHORT)) == STEPS


def test_a_training_without_stages_gets_none_on_the_way(train):
    train(epochs=1)
    with pytest.raises(Mistake, match='run: was trained without stages, and the config has some'):
        train(resume=True, stages=named('a'))


def named(names):
    """A stage for each letter."""
    return [dict(name=name) for name in names] or None


@pytest.mark.parametrize(
    ('name', 'before', 'now'),
    [
        ('train_dataloader.dataset.exclude', ['/a/first.csv'], ['/b/other.csv']),
        ('model.backbone.chain.weights', '/a/first.pth', '/b/other.pth'),
        ('param_scheduler.0.monitor', 'cls/AC', 'seg/JA'),
        ('ends_with', 'best:cls/AC', 'best:seg/JA'),
    ],
)
def test_names_of_files_and_metrics_count_and_folders_do_not(name, before, now, repository, tmp_path):
    def settings(value):
        cfg = load_config(repository / 'configs/fpm/r18_synthetic.py')
        cfg.merge_from_dict({name: value})
        return settings_of(cfg)

    write_json(tmp_path / 'settings.json', {'processes': 1, 'after': None, 'settings': settings(before)})
    assert [*changes(tmp_path, settings(now))] == [f'{name}.0' if isinstance(now, list) else name]
    moved = json.loads(json.dumps(before).replace('/a/', '/elsewhere/'))
    assert not changes(tmp_path, settings(moved))


def test_a_test_in_the_folder_of_a_training_leaves_its_config(train, repository, data_root, tiny, tmp_path):
    train(epochs=1)
    before = (tmp_path / 'run/r18_synthetic.py').read_text()
    options = {**tiny, 'stages': None}
    cfg = load_config(
        repository / 'configs/fpm/r18_synthetic.py', str(tmp_path / 'run'), str(data_root), options=options
    )
    evaluate_checkpoint(cfg, tmp_path / 'run')
    assert (tmp_path / 'run/r18_synthetic.py').read_text() == before


def test_settings_of_other_programs_are_no_stages(tmp_path):
    for name, text in {'.vscode': '{"editor.fontSize": 12}', 'notes': 'no JSON', 'lists': '[]'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / 'settings.json').write_text(text)
    (tmp_path / 'folder/settings.json').mkdir(parents=True)
    assert former_stages(tmp_path) == []
    refuse_other_stages(tmp_path, {str(tmp_path): None})


def test_classes_in_another_order_are_refused(train, tmp_path):
    """Of a resumed training, of one that starts from weights, and of the validation: each class would be another."""

    def named(*parts):
        swapped = dict(classes=('nevus', 'melanoma', 'seborrheic_keratosis'))
        return {f'{part}_dataloader.dataset.metainfo': swapped for part in parts}

    train(epochs=1)
    before = r"/run/epoch_1.pth: was trained with classes=\['melanoma', .*, and the training set has \['nevus', "
    with pytest.raises(Mistake, match=before):
        train(resume=True, **named('train', 'val'))
    with pytest.raises(Mistake, match=before):
        train('other', load_from=str(tmp_path / 'run/epoch_1.pth'), **named('train', 'val'))
    with pytest.raises(Mistake, match='the network is trained with classes=.*, and val_dataloader has'):
        train('third', **named('val'))
    more = dict(classes=('melanoma', 'nevus', 'seborrheic_keratosis', 'naevus'))
    with pytest.raises(Mistake, match='the network is trained with classes=.*naevus.*, and val_dataloader has'):
        train('fourth', **{'train_dataloader.dataset.metainfo': more})


def test_a_validation_on_images_that_are_trained_on_is_said(train, capsys):
    train(**SHORT)
    assert 'are trained on' not in capsys.readouterr().out
    train('other', **SHORT, **{'train_dataloader.dataset.split': ('train', 'val')})
    assert '7 of the 7 images of val_dataloader are trained on, such as ' in capsys.readouterr().out
