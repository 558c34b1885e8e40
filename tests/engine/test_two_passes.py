"""Steps of two passes (SAM, LBFGS, a network's own) on one process and on two, and strategies of ``FlexibleRunner``."""

import json
import socket
from pathlib import Path

import forked
import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn
from two_processes import train_all  # registers a network

from mmskin.config import load_config
from mmskin.engine.closures import SAM, ClosureOptimWrapper
from mmskin.engine.mixed_precision import in_mixed_precision
from mmskin.models.weights import read_weights
from mmskin.registry import OPTIM_WRAPPERS

HERE = Path(__file__).parent
SGD = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1), clip_grad=None)
TWICE = dict(type='ClosureOptimWrapper', optimizer=dict(type='SAM', base='SGD', lr=0.1, rho=2.0), clip_grad=None)
CLIP = dict(max_norm=0.02)  # a sixth of the gradient's norm
VARIANTS = {
    'sgd': {'optim_wrapper': SGD},
    'clipped': {'optim_wrapper': {**SGD, 'clip_grad': CLIP}},
    'clipped sam': {'optim_wrapper': {**TWICE, 'clip_grad': CLIP}},
    'sam': {'optim_wrapper': TWICE},
    'own': {'optim_wrapper': SGD, 'model.type': 'TwoSteps'},
}
PLAIN = ('sgd', 'sam', 'own')
STRATEGIES = {
    'ddp': dict(type='DDPStrategy'),
    'fsdp': dict(type='FSDPStrategy', model_wrapper=dict(use_orig_params=True)),  # since parts are held
}
FLEXIBLE = {'optim_wrapper': SGD, 'runner_type': 'FlexibleRunner'}


@pytest.fixture(scope='module')
def config(repository):
    return str(repository / 'configs/fpm/r18_synthetic.py')


@pytest.fixture(scope='module')
def tiny(tiny):
    """One stage of one epoch of two steps, in which each process has half of the batch; no statistics of batches."""
    pipeline = [dict(type='LoadImage', size=48), dict(type='ResizeImage'), dict(type='LoadMask')]
    return {
        **tiny,
        'model.tasks.cls.head.dropout': 0.0,
        'stages': None,
        'param_scheduler': None,
        'train_cfg.max_epochs': 1,
        'train_cfg.val_interval': 9,
        'train_dataloader.dataset.pipeline': [*pipeline, dict(type='PackTaskSample')],
        'train_dataloader.sampler.shuffle': False,
    }


@pytest.fixture(scope='module')
def one(config, data_root, tiny, tmp_path_factory):
    """Each variant's weights, by one process with whole batches."""
    folder = tmp_path_factory.mktemp('one')
    whole = {name: {**tiny, **more, 'train_dataloader.batch_size': 6} for name, more in VARIANTS.items()}
    train_all(config, folder, str(data_root), whole)
    return {name: read_weights(folder / name / 'epoch_1.pth') for name in whole}


def train_in_two(folder, config, data_root, variants):
    """Train variants in two processes over gloo; gives their weights."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = str(probe.getsockname()[1])
    words = [HERE / 'two_processes.py', config, folder, data_root, json.dumps(variants)]
    together = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': port}
    programs = [
        forked.Program(*words, environment={**together, 'RANK': rank, 'LOCAL_RANK': rank}) for rank in ('0', '1')
    ]
    for ended in [program.wait() for program in programs]:
        assert ended.returncode == 0, ended.stderr[-3000:]
    return {name: read_weights(folder / name / 'epoch_1.pth') for name in variants}


@pytest.fixture(scope='module')
def two(config, data_root, tiny, tmp_path_factory):
    """The same by two processes, each with half of every batch."""
    halves = {name: {**tiny, **VARIANTS[name], 'train_dataloader.batch_size': 3} for name in PLAIN}
    for name, strategy in STRATEGIES.items():
        halves[name] = {**halves['sgd'], **FLEXIBLE, 'strategy': strategy}
        halves[f'own {name}'] = {**halves[name], 'model.type': 'TwoSteps'}
        halves[f'sam {name}'] = {**halves[name], 'optim_wrapper': TWICE}
        halves[f'clipped {name}'] = {**halves[name], **VARIANTS['clipped']}
    halves['clipped sam fsdp'] = {**halves['fsdp'], **VARIANTS['clipped sam']}
    return train_in_two(tmp_path_factory.mktemp('two'), config, data_root, halves)


def trained(weights):
    return torch.cat([tensor.flatten() for name, tensor in weights.items() if tensor.is_floating_point()])


@pytest.mark.slow
@pytest.mark.parametrize('name', PLAIN)
def test_two_processes_step_as_one_does(name, one, two):
    """Both passes are of the whole batch, so the weights are those of one process, and not those of a single pass."""
    torch.testing.assert_close(trained(two[name]), trained(one[name]), rtol=1e-3, atol=1e-5)  # summed in another order
    if name != 'sgd':
        assert (trained(one[name]) - trained(one['sgd'])).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ddp', 'fsdp'])
def test_a_strategy_of_two_processes_trains_a_stage(name, one, two):
    assert {key: tensor.shape for key, tensor in two[name].items()} == {
        key: tensor.shape for key, tensor in one['sgd'].items()
    }
    torch.testing.assert_close(trained(two[name]), trained(one['sgd']), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ddp', 'fsdp'])
def test_a_strategy_keeps_the_networks_own_step(name, one, two):
    torch.testing.assert_close(trained(two[f'own {name}']), trained(one['own']), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ddp', 'fsdp'])
def test_a_strategy_climbs_by_the_whole_gradient(name, one, two):
    """Though under FSDP each process holds a part of it."""
    torch.testing.assert_close(trained(two[f'sam {name}']), trained(one['sam']), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['clipped ddp', 'clipped fsdp', 'clipped sam fsdp'])
def test_a_strategy_clips_by_the_whole_norm(name, one, two):
    clipped = name.rpartition(' ')[0]
    torch.testing.assert_close(trained(two[name]), trained(one[clipped]), rtol=1e-3, atol=1e-5)
    assert (trained(one[clipped]) - trained(one['sam' if 'sam' in name else 'sgd'])).abs().max() > 3e-4


def test_the_strategy_of_one_device_trains_stage_by_stage(config, data_root, tiny, tmp_path):
    stages = [dict(name='cls', model=dict(active_tasks=['cls'], use_passing=False)), dict(name='joint')]
    options = {**tiny, **FLEXIBLE, 'strategy': dict(type='SingleDeviceStrategy'), 'stages': stages, 'keep_stages': True}
    train_all(config, tmp_path, str(data_root), {'single': {**options, 'train_cfg.val_interval': 1}})
    first, last = (tmp_path / 'single' / name for name in ('cls/epoch_1.pth', 'joint/epoch_1.pth'))
    assert read_weights(first).keys() == read_weights(last).keys()
    assert 'Load checkpoint from' in next(last.parent.glob('*/*.log')).read_text()


def quadratic():
    torch.manual_seed(0)
    layer = nn.Linear(3, 1, bias=False)
    return layer, torch.randn(5, 3)


class Model(nn.Module):
    """As a BaseModel's step calls it."""

    def __init__(self):
        super().__init__()
        self.layer, self.images = quadratic()

    def forward(self, images):
        return {'loss': self.layer(images).square().mean()}

    def parse_losses(self, losses):
        return losses['loss'] * 1, losses

    def step(self, wrapper):
        with wrapper.optim_context(self):
            losses = self(self.images)
        wrapper.update_params(self.parse_losses(losses)[0])


@pytest.mark.parametrize('adaptive', [False, True])
def test_sam_is_the_papers_step(adaptive):
    """Against equations 2 and 3, by autograd and by hand."""
    model, (layer, images) = Model(), quadratic()
    wrapper = ClosureOptimWrapper(SAM(model.parameters(), lr=0.1, rho=0.3, adaptive=adaptive))
    model.step(wrapper)
    weight = layer.weight.detach()

    def gradient(at):
        return 2 * (images @ at.T * images).mean(dim=0, keepdim=True)

    scale = weight.abs() if adaptive else torch.ones_like(weight)
    first = gradient(weight)
    climb = 0.3 * scale**2 * first / (scale * first).norm()
    torch.testing.assert_close(model.layer.weight.detach(), weight - 0.1 * gradient(weight + climb))


def test_lbfgs_gets_its_closure():
    """A quadratic of three unknowns is solved in one step of a few evaluations."""
    model = Model()
    model.step(ClosureOptimWrapper(torch.optim.LBFGS(model.parameters(), line_search_fn='strong_wolfe')))
    assert model.layer.weight.abs().max() < 1e-3


def test_schedules_and_resume_reach_the_base():
    model = Model()
    optimizer = SAM(model.parameters(), base='AdamW', lr=0.1)
    optimizer.param_groups[0]['lr'] = 0.0
    before = model.layer.weight.clone()
    model.step(ClosureOptimWrapper(optimizer))
    assert torch.equal(model.layer.weight, before)
    again = SAM(model.parameters(), base='AdamW', lr=0.1)
    again.load_state_dict(optimizer.state_dict())
    assert again.base.param_groups[0]['lr'] == again.param_groups[0]['lr'] == 0.0
    assert len(again.base.state) == 1


def test_a_plain_wrapper_gives_no_closure():
    model = Model()
    with pytest.raises(ValueError, match="optim_wrapper.type='ClosureOptimWrapper'"):
        model.step(OptimWrapper(SAM(model.parameters(), lr=0.1)))
    with pytest.raises(ValueError, match='leave accumulative_counts out'):
        ClosureOptimWrapper(SAM(model.parameters(), lr=0.1), accumulative_counts=2)


# --amp


@OPTIM_WRAPPERS.register_module()
class Counting(OptimWrapper):
    """A user's wrapper."""


@pytest.mark.parametrize(
    ('named', 'expected'),
    [
        ('OptimWrapper', 'BFloat16OptimWrapper'),
        ('BFloat16OptimWrapper', 'BFloat16OptimWrapper'),
        ('AmpOptimWrapper', 'AmpOptimWrapper'),
        ('ClosureOptimWrapper', 'BFloat16ClosureOptimWrapper'),
        (Counting, 'BFloat16Counting'),
    ],
)
def test_amp_keeps_the_wrapper_that_the_config_names(named, expected, config):
    cfg = load_config(config, amp=True, options={'optim_wrapper.type': named})
    in_mixed_precision(cfg)
    kind = OPTIM_WRAPPERS.get(cfg.optim_wrapper.type)
    if torch.cuda.is_available() and named == 'OptimWrapper':
        expected = 'AmpOptimWrapper'
    assert kind.__name__ == expected
    assert kind.__doc__
    assert issubclass(kind, named if isinstance(named, type) else OPTIM_WRAPPERS.get(named))


def test_both_passes_are_in_mixed_precision(config):
    cfg = load_config(config, amp=True, options={'optim_wrapper.type': 'ClosureOptimWrapper'})
    in_mixed_precision(cfg)
    model, seen = Model(), []
    model.layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    model.step(OPTIM_WRAPPERS.get(cfg.optim_wrapper.type)(SAM(model.parameters(), lr=0.1)))
    assert seen == [torch.bfloat16, torch.bfloat16]


def test_amp_without_a_plain_step_is_refused(config):
    cfg = load_config(config, amp=True, options={'optim_wrapper.type': 'mmengine.optim.OptimWrapperDict'})
    with pytest.raises(ValueError, match="OptimWrapperDict' cannot be trained with --amp"):
        in_mixed_precision(cfg)
