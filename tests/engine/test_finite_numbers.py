"""Training and testing stop at the first number that is none, and say where."""

import json
import math
import re

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from torch import nn

from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.engine.stages import run_stages
from mmskin.engine.tracking import LocalVisBackend
from mmskin.errors import Mistake
from mmskin.models.weights import read_weights


class Spoiled(nn.Module):
    """A loss that is as said from the call on that is told, counted from 1; or whose gradient is nan there."""

    calls = 0

    def __init__(self, call: int, value: float | str) -> None:
        super().__init__()
        self.call, self.value = call, value

    def forward(self, logits, target):
        Spoiled.calls += 1
        loss = logits.float().square().mean()
        if Spoiled.calls < self.call:
            return loss
        return (loss * 0).sqrt() + loss if self.value == 'gradient' else loss + self.value


@pytest.fixture
def load(repository, data_root, tiny, tmp_path):
    """The narrow network's config for one stage of two epochs of three steps, with a loss that goes wrong."""
    Spoiled.calls = 0
    options = {**tiny, 'stages': None, 'visualizer': None}

    def load(call, value, **more):
        config = repository / 'configs/fpm/r18_synthetic.py'
        cfg = load_config(config, str(tmp_path), str(data_root), options={**options, **more})
        cfg.model.tasks.cls.losses = dict(ce=dict(type='CrossEntropy'), odd=dict(type=Spoiled, call=call, value=value))
        return cfg

    return load


@pytest.mark.parametrize(('value', 'text'), [(float('nan'), 'nan'), (float('inf'), 'infinite')])
def test_training_stops_at_a_loss_and_names_it(value, text, load, tmp_path):
    with pytest.raises(Mistake) as caught:
        run_stages(load(5, value))
    line = str(caught.value)
    assert '\n' not in line
    assert line.startswith(f'epoch 2, iteration 5: the loss cls/loss_odd is {text} (images: ')
    images = line.partition('images: ')[2].partition(')')[0].split(', ')
    assert len({*images}) == 4
    assert all(image.startswith('SYN_') for image in images)
    assert f'the last good checkpoint is {tmp_path / "epoch_1.pth"}' in line
    assert all(value.isfinite().all() for value in read_weights(tmp_path / 'epoch_1.pth').values())
    assert not (tmp_path / 'epoch_2.pth').exists()


def test_a_stage_is_named_and_where_it_started(load):
    stages = [dict(name='warm', train_cfg=dict(max_epochs=1)), dict(name='joint', train_cfg=dict(max_epochs=1))]
    cfg = load(5, float('nan'))
    cfg.stages = stages
    cfg.command_line_options = {}
    with pytest.raises(Mistake, match=r'stage joint, epoch 1, iteration 2: .*, and the start was .*warm/epoch_1\.pth'):
        run_stages(cfg)


@pytest.mark.parametrize(
    'options',
    [
        {'optim_wrapper.accumulative_counts': 2},
        {'optim_wrapper.type': 'BFloat16OptimWrapper'},
        {'model.weighting': dict(type='UncertaintyWeights')},
        {
            'runner_type': 'FlexibleRunner',
            'strategy': dict(type='SingleDeviceStrategy'),
        },
    ],
)
def test_it_stops_whatever_the_way_of_training(options, load):
    with pytest.raises(Mistake, match=r'iteration 4: the loss cls/loss_odd is nan \(images: SYN_'):
        run_stages(load(4, float('nan'), **options))


def test_a_gradient_that_is_no_number_is_blamed_on_its_own_images(load, tmp_path):
    with pytest.raises(Mistake, match=r'iteration 2: the loss .*, since the step before.*left .* not finite'):
        run_stages(load(1, 'gradient'))


def test_images_that_spoil_the_statistics_are_blamed_themselves(load, monkeypatch):
    """Batch norm has taken them in before the loss is looked at; the step before is not to blame."""
    forward, calls = ImgDataPreprocessor.forward, []

    def spoil(self, data, training=False):
        calls.extend([data] if training else [])
        data = forward(self, data, training)
        return {**data, 'inputs': data['inputs'] * (float('nan') if len(calls) == 3 else 1)}

    monkeypatch.setattr(ImgDataPreprocessor, 'forward', spoil)
    with pytest.raises(Mistake, match=r'iteration 3: the loss cls/loss_ce is nan [^,]* \(images: SYN_') as caught:
        run_stages(load(99, 0.0))
    assert {sample.image_id for sample in calls[2]['data_samples']} == {*re.findall(r'SYN_\d+', str(caught.value))}


@pytest.mark.parametrize(('eta_min', 'text'), [(-1.0, '-0.'), (float('nan'), 'nan')])
def test_a_learning_rate_that_is_none_is_named(eta_min, text, load):
    with pytest.raises(Mistake, match=f'iteration 2: the learning rate is {text}.*; look at param_scheduler'):
        run_stages(load(99, 0.0, **{'param_scheduler.0.eta_min': eta_min}))


def test_weights_that_are_no_numbers_are_not_saved(load, tmp_path):
    """The last step of an epoch shows in no loss before its checkpoint is written."""
    with pytest.raises(Mistake, match=r'iteration 6: .* is not finite after the last step .*epoch_1\.pth'):
        run_stages(load(6, 'gradient'))
    assert not (tmp_path / 'epoch_2.pth').exists()
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')


def test_a_test_names_the_image_whose_answer_is_no_number(load, tmp_path):
    cfg = load(99, 0.0)
    final = run_stages(cfg)
    weights = torch.load(final, weights_only=False)
    for name, value in weights['state_dict'].items():
        if name.startswith('tasks.cls.head.fc'):
            value.fill_(float('nan'))
    torch.save({'state_dict': weights['state_dict']}, tmp_path / 'broken.pth')
    with pytest.raises(Mistake, match=r'SYN_\d+\.jpg: the answer of the network is not finite \(cls_score is nan\)'):
        evaluate_checkpoint(cfg, tmp_path / 'broken.pth', tmp_path / 'test')
    assert not (tmp_path / 'test/results.json').exists()


def test_hooks_of_trainings_rest_in_tests_whose_json_is_strict(load, tmp_path):
    """Of a single image most metrics are undefined."""
    cfg = load(99, 0.0, **{'train_cfg.max_epochs': 1, 'test_dataloader.dataset.indices': 1})
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type='EarlyStoppingHook', monitor='cls/AC', rule='greater', patience=1)]
    final = run_stages(cfg)
    assert math.isnan(evaluate_checkpoint(cfg, final, tmp_path / 'test')['cls/AUC_mean'])
    files = [file for file in tmp_path.rglob('*.json') if file.parent.name != 'vis_data']  # which has a line a step
    found = {file.name: json.loads(file.read_text(), parse_constant=pytest.fail) for file in files}
    assert found['results.json']['cls/AUC_mean'] is None
    assert any('cls/AC' in str(content) for name, content in found.items() if name[:2] == '20')  # mmengine's


def test_a_log_of_scalars_is_strict_json(tmp_path):
    LocalVisBackend(str(tmp_path)).add_scalars({'loss': math.nan, 'lr': 0.1}, step=3, file_path='log.json')
    for name in ('log.json', 'scalars.json'):
        line = json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
        assert line == {'loss': None, 'lr': 0.1, 'step': 3}
