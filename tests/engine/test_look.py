"""Looking before training: the merged config, the summary, a dry run; and ending with the best checkpoint."""

import json
import signal
from pathlib import Path

import forked
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.engine.stages import run_stages, stage_configs
from mmskin.errors import Mistake
from mmskin.models.weights import read_checkpoint, read_weights
from mmskin.registry import MODELS

CONFIG = 'configs/fpm/r18_synthetic.py'
LITE0 = 'configs/fpm/lite0_isic2017.py'


@pytest.fixture(scope='module')
def config(repository):
    return str(repository / CONFIG)


def words(options):
    return [f'{key}={value}' for key, value in options.items()]


# mmskin config


def test_a_stages_config_is_printed_as_it_trains_and_can_be_read_again(repository, capsys):
    path = str(repository / LITE0)
    assert main(['config', path, '--stage', 'seg', '--cfg-options', 'train_dataloader.batch_size=7']) == 0
    printed = Config.fromstring(capsys.readouterr().out, '.py').to_dict()
    expected = stage_configs(load_config(path, options={'train_dataloader.batch_size': 7}))[1].to_dict()
    for key in ('launcher', 'command_line_options'):
        expected.pop(key, None)
    assert printed == expected
    assert printed['train_dataloader']['batch_size'] == 7
    assert printed['model']['active_tasks'] == ['seg']


def test_without_a_stage_the_whole_is_printed(repository, capsys):
    assert main(['config', str(repository / LITE0)]) == 0
    printed = Config.fromstring(capsys.readouterr().out, '.py')
    assert [stage.name for stage in printed.stages] == ['cls', 'seg', 'joint']


def test_a_stage_that_is_not_there(config, capsys):
    assert main(['config', config, '--stage', 'jiont']) == 2
    assert "no stage is named 'jiont'; there are cls, seg, joint" in capsys.readouterr().err


# mmskin summary


def test_the_summary_counts_what_each_stage_trains(config, tiny, capsys):
    assert main(['summary', config, '--cfg-options', *words(tiny)]) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = {line.split()[0]: line.split() for line in lines[-5:-2]}
    for stage in stage_configs(load_config(config, options=tiny)):
        model = MODELS.build(stage.model)
        trained = sum(one.numel() for one in model.parameters() if one.requires_grad)
        held = sum(one.numel() for one in model.parameters() if not one.requires_grad)
        assert stages[stage.stage][-3:-1] == [f'{trained:,}', f'{held:,}']
    # the stem: 24 x 24 places, 8 filters of 3 x 3 x 3 weights, two operations each; the pooling halves the map
    stem = next(line.split() for line in lines if line.split()[:1] == ['stem'])
    assert stem == ['stem', '8', 'x', '12', 'x', '12', '232', f'{24 * 24 * 8 * 27 * 2 / 1e6:.1f}']
    assert any(line.split()[:1] == ['layer3.1'] and '*' in line for line in lines)


def test_a_summary_needs_a_size(config, tiny, capsys):
    assert main(['summary', config, '--size', '0', '--cfg-options', *words(tiny)]) == 2
    assert '--size 0' in capsys.readouterr().err
    assert main(['summary', config, '--size', '64', '--cfg-options', *words(tiny)]) == 0
    assert 'an image of 64 x 64 pixels' in capsys.readouterr().out


# mmskin train --dry-run


def test_a_dry_run_trains_and_validates_every_stage_and_leaves_nothing(
    config, data_root, tiny, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    options = ['--data-root', str(data_root), '--work-dir', 'out', '--cfg-options', *words(tiny)]
    assert main(['train', config, '--dry-run', *options]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if ': a batch trained' in line]
    assert [line.partition(':')[0] for line in lines] == ['cls', 'seg', 'joint']
    assert all('loss' in line and line.endswith('and one validated') for line in lines)
    assert [*tmp_path.iterdir()] == []


def test_a_dry_run_finds_what_would_stop_the_last_stage(config, data_root, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [*words(tiny), 'stages.2.load_from=nowhere.pth']
    assert main(['train', config, '--dry-run', '--data-root', str(data_root), '--cfg-options', *options]) == 2
    assert 'nowhere.pth' in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


# ends_with


def best(tiny, **more):
    return {
        **tiny,
        'stages': None,
        'train_cfg.max_epochs': 3,
        'train_cfg.val_interval': 1,
        'ends_with': 'best:cls/AP_seborrheic_keratosis',
        **more,
    }


KILLED = """
import json, os, signal, sys
from mmengine.hooks import Hook
from mmskin.config import load_config
from mmskin.engine.stages import run_stages

class Kill(Hook):
    priority = 'LOWEST'
    def before_val(self, runner):
        if when == 'before' and runner.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    def before_train_epoch(self, runner):
        if when == 'after' and runner.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

when, tests, config, work_dir, data_root, options = sys.argv[1:]
sys.path.append(tests)
cfg = load_config(config, work_dir, data_root, options=json.loads(options))
cfg.custom_hooks = [*cfg.custom_hooks, dict(type=Kill)]
run_stages(cfg)
"""


@pytest.fixture(scope='module')
def straight(config, data_root, tiny, tmp_path_factory):
    """A training whose second epoch is the best: from then on the rate is too high to learn."""
    work_dir = tmp_path_factory.mktemp('straight')
    return run_stages(load_config(config, str(work_dir), str(data_root), options=best(tiny, **SPOILT)))


SPOILT = {
    'param_scheduler': [dict(type='MultiStepLR', milestones=[2], gamma=1e5, by_epoch=True)],
    'optim_wrapper.optimizer.lr': 1e-3,
}


def test_a_stage_ends_with_the_best_checkpoint(straight):
    assert straight.name == 'best_cls_AP_seborrheic_keratosis_epoch_2.pth'
    folder = straight.parent
    assert (folder / 'last_checkpoint').read_text() == str(straight)
    assert read_checkpoint(straight)['meta']['epoch'] == 2
    assert not all(
        torch.equal(one, other)
        for one, other in zip(
            read_weights(straight).values(), read_weights(folder / 'epoch_3.pth').values(), strict=True
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize('when', ['before', 'after'])
def test_the_best_survives_a_kill(when, straight, config, data_root, tiny, tmp_path):
    """Before its validation, or before the next checkpoint notes it."""

    options = best(tiny, **SPOILT)
    killed = forked.run('-c', KILLED, when, Path(__file__).parent, config, tmp_path, data_root, json.dumps(options))
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    final = run_stages(load_config(config, str(tmp_path), str(data_root), options=options), resume=True)
    assert final == tmp_path / straight.name
    expected, found = read_weights(straight), read_weights(final)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_next_stage_starts_from_the_best(config, data_root, tiny, tmp_path):
    options = {**tiny, 'train_cfg.max_epochs': 1, 'stages.0.ends_with': 'best:cls/AC', 'keep_stages': True}
    run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
    assert (tmp_path / 'cls/last_checkpoint').read_text().endswith('best_cls_AC_epoch_1.pth')
    assert 'best_cls_AC_epoch_1.pth' in next((tmp_path / 'seg').glob('*/*.log')).read_text()


@pytest.mark.parametrize(
    ('ends_with', 'message'),
    [
        ('best', "ends_with='best': give 'best:' and a metric"),
        ('last:cls/AC', "ends_with='last:cls/AC'"),
        ('best:cls/AUC_maen', "gives no 'cls/AUC_maen'; it gives .*cls/AUC_mean"),
    ],
)
def test_what_no_stage_can_end_with(ends_with, message, config, data_root, tiny, tmp_path):
    options = best(tiny, ends_with=ends_with)
    with pytest.raises(ValueError, match=message):
        run_stages(load_config(config, str(tmp_path), str(data_root), options=options))


class Odd(BaseMetric):
    """Gives what it is told to, one after the other."""

    default_prefix = 'odd'

    def __init__(self, gives):
        super().__init__()
        self.gives = [*gives]

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return self.gives.pop(0)


STOPS = dict(type='EarlyStoppingHook', rule='greater')


@pytest.mark.parametrize(
    ('metrics', 'hook', 'message'),
    [
        (
            [[{}]],
            dict(STOPS, monitor='cls/ACC'),
            "EarlyStoppingHook: the validation gives no 'cls/ACC'; it gives cls/AC,",
        ),
        ([[{}]], dict(STOPS, monitor='ACC'), "EarlyStoppingHook: the validation gives no 'ACC'; it gives cls/AC,"),
        ([[{}, {'of_all': 1}]], dict(STOPS, monitor='odd/off_all'), "no 'odd/off_all'; it gives .*odd/of_all"),
        ([[None]], None, 'Odd: gives None; give numbers by their names'),
        ([[{'AC': 'x'}]], None, "Odd: odd/AC is 'x'; give a number"),
        ([[{'AC': 1}]] * 2, None, 'Odd: odd/AC is that of another metric; give it a prefix of its own'),
    ],
)
def test_what_no_validation_gives(metrics, hook, message, config, data_root, tiny, tmp_path):
    """The first two are known before the training; that a metric gives no number for a few images says nothing."""
    cfg = load_config(
        config, str(tmp_path), str(data_root), options={**tiny, 'stages': None, 'train_cfg.max_epochs': 1}
    )
    cfg.val_evaluator = [*cfg.val_evaluator, *(dict(type=Odd, gives=scores) for scores in metrics)]
    cfg.custom_hooks = [*cfg.custom_hooks, *filter(None, [hook])]
    with pytest.raises(Mistake, match=message) as caught:
        run_stages(cfg)
    assert '\n' not in str(caught.value)
    assert (tmp_path / 'epoch_1.pth').exists() == ('cls/AC,' not in message)


def test_what_chooses_without_a_validation(config, data_root, tiny, tmp_path):
    options = {**tiny, 'stages': None, 'val_dataloader': None, 'val_cfg': None, 'val_evaluator': None}
    options |= {'default_hooks.checkpoint.save_best': 'cls/AC', 'default_hooks.checkpoint.rule': 'greater'}
    with pytest.raises(Mistake, match="CheckpointHook: the validation gives no 'cls/AC'; it gives none"):
        run_stages(load_config(config, str(tmp_path), str(data_root), options=options))
