"""Every config in configs/ builds, steps in each of its stages, and ends its schedules inside its runs."""

import argparse
import ast
import copy
import functools
import inspect
import io
import math
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from mmengine.config import Config, DictAction
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.optim.scheduler.lr_scheduler import CosineAnnealingLR
from mmengine.structures import PixelData
from torch import nn

from mmskin.config import load_config, read_config, statement_formatter
from mmskin.datasets.fundus import SyntheticFundus
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.stages import stage_configs
from mmskin.errors import Mistake
from mmskin.registry import DATASETS, HOOKS, METRICS, MODELS, PARAM_SCHEDULERS, TRANSFORMS
from mmskin.structures import TaskSample

FOLDER = Path(__file__).parents[1] / 'configs'
PATHS = sorted(path for path in FOLDER.rglob('*.py') if '_base_' not in path.parts)
assert PATHS, f'no config in {FOLDER}'
NAMES = [path.relative_to(FOLDER).as_posix() for path in PATHS]
every_config = pytest.mark.parametrize('path', PATHS, ids=NAMES)
LARGE = re.compile(r'^(?!fpm).*(r101|vgg16|ge2017)')  # seconds for a step; of these, the paper's own is always tried

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
NO_CODE = {getattr(tokenize, kind) for kind in ('COMMENT', 'NL', 'NEWLINE', 'INDENT', 'DEDENT', 'ENDMARKER')}
TRAINING_IMAGES = {
    'data/isic2017': 2000,
    'data/synthetic': inspect.signature(SyntheticLesions.write).parameters['num_train'].default,
    'data/fundus': inspect.signature(SyntheticFundus.write).parameters['num_train'].default,
}


@pytest.fixture
def quick_networks(monkeypatch):
    """Networks with random weights that are drawn once for all tests: that takes most of a build."""
    for library, network in DRAWN.items():
        monkeypatch.setattr(
            library, network.__name__, lambda *args, of=network, **options: copy.deepcopy(of(*args, **options))
        )


DRAWN = {
    library: functools.cache(build)
    for library, build in ((torchvision.models, torchvision.models.get_model), (timm, timm.create_model))
}


def stages_of(path):
    """The config's stages, from random weights as on a machine without a network."""
    cfg = load_config(path)
    forget_weights(cfg.model)
    return stage_configs(cfg)


def forget_weights(part):
    """Set every ``weights`` in a config to None, as ``--cfg-options model.backbone.chain.weights=None`` does."""
    if isinstance(part, dict):
        part.update({key: None for key in part if key == 'weights'})
    for inner in part.values() if isinstance(part, dict) else part:
        if isinstance(inner, dict | list):
            forget_weights(inner)


def make_batch(count=2, size=64):
    generator = torch.Generator().manual_seed(0)
    samples = []
    for index in range(count):
        sample = TaskSample(metainfo=dict(image_id=str(index), ori_shape=(70, 90), img_shape=(size, size)))
        sample.gt_label, sample.gt_values = torch.tensor([index % 3]), torch.tensor([0.5, 0.1])
        sample.gt_sex = sample.gt_grade = sample.gt_eye = torch.tensor([index % 2])
        sample.gt_findings = torch.tensor([index % 2, math.nan])
        for field, channels in (('gt_sem_seg', 1), ('gt_vessels', 1), ('gt_lesions', 2)):
            mask = torch.randint(2, (channels, size, size), generator=generator, dtype=torch.uint8)
            sample.set_field(PixelData(data=mask), field)
        samples.append(sample)
    images = [torch.randint(256, (3, size, size), generator=generator, dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize(
    'path',
    [
        pytest.param(path, id=name, marks=[pytest.mark.long] if LARGE.search(name) else [])
        for path, name in zip(PATHS, NAMES, strict=True)
    ],
)
@pytest.mark.usefixtures('quick_networks')
def test_every_stage_steps(path):
    for cfg in stages_of(path):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).train()
        trained = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
        logged = model.train_step(make_batch(), build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper)))
        assert {name.split('/')[0] for name in logged} == {'loss', *model.active_tasks}
        assert logged['loss'].isfinite()
        assert any(not torch.equal(p, trained[name]) for name, p in model.named_parameters() if name in trained)
    sample = model.val_step(make_batch())[0]
    estimated = {name: task.probability for name, task in model.tasks.items()}
    assert {name for name, field in estimated.items() if field in sample} == {*model.active_tasks}
    assert {*sample.targets} == {*model.active_tasks}


@every_config
def test_everything_named_is_registered(path):
    for cfg in stages_of(path):
        assert all(HOOKS.build(copy.deepcopy(hook)) for hook in cfg.custom_hooks)
        datasets = [cfg[loader].dataset for loader in LOADERS]
        assert all(dataset.type in DATASETS for dataset in datasets)
        assert all(step.type in TRANSFORMS for dataset in datasets for step in dataset.pipeline)
        assert all(metric.type in METRICS for metric in (*cfg.val_evaluator, *cfg.test_evaluator))


def epoch_length(loader):
    images = TRAINING_IMAGES[loader.dataset.data_root]
    return images // loader.batch_size if loader.get('drop_last') else -(-images // loader.batch_size)


def build_schedulers(cfg, optimizer):
    """As the Runner builds them, but for its default of an end, which a config has to state."""
    defaults = dict(optimizer=optimizer, epoch_length=epoch_length(cfg.train_dataloader))
    return [PARAM_SCHEDULERS.build(copy.deepcopy(part), default_args=defaults) for part in cfg.param_scheduler or []]


def run_schedulers(schedulers, epochs, iterations):
    for _ in range(epochs):
        for _ in range(iterations):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in schedulers:
            if scheduler.by_epoch:
                scheduler.step()


@every_config
def test_schedules_end_inside_their_run(path):
    for cfg in stages_of(path):
        optimizer = OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0))
        schedulers, iterations = build_schedulers(cfg, optimizer), epoch_length(cfg.train_dataloader)
        epochs = cfg.train_cfg.get('max_epochs', 1)
        iterations = cfg.train_cfg.get('max_iters', iterations)
        for scheduler in schedulers:
            last = epochs if scheduler.by_epoch else epochs * iterations
            assert scheduler.end <= last
            assert getattr(scheduler, 'T_max', 0) <= scheduler.end - scheduler.begin
            assert all(step < last for step in getattr(scheduler, 'milestones', []))
        run_schedulers(schedulers, epochs, iterations)
        for scheduler in schedulers:
            if isinstance(scheduler, CosineAnnealingLR):
                assert optimizer.param_groups[0]['lr'] == pytest.approx(scheduler.eta_min, abs=1e-3)


def code_lines(source):
    """Lines of ``source`` that are neither blank, comment nor docstring."""
    docstring = ast.parse(source).body[0].end_lineno
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {line for t in tokens if t.type not in NO_CODE for line in range(t.start[0], t.end[0] + 1)} - {
        *range(docstring + 1)
    }


def model_lines(source):
    """Lines of the statement that gives the whole model; none where a config changes another's."""
    statements = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    sizes = [n.end_lineno - n.lineno + 1 for n in statements if ast.unparse(n.targets[0]) == 'model']
    return sum(sizes)


@every_config
def test_a_leaf_is_short(path):
    """It states its whole model, or what differs from one that does."""
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source))
    assert '_delete_' not in source
    assert model_lines(source) <= 45
    assert len(code_lines(source)) <= (100 if model_lines(source) else 45)


@pytest.mark.parametrize('name', ['r101_isic2017.py', 'lite0_isic2017.py', 'r18_synthetic.py'])
def test_passing_is_what_sets_the_twins_apart(name):
    twins = [load_config(FOLDER / family / name) for family in ('fpm', 'multitask')]
    assert twins[0].model.pop('passing')
    assert twins[1].model.pop('passing') is None
    assert twins[0].to_dict() == twins[1].to_dict()


@pytest.mark.parametrize('name', ['fpm/lite0_second_look_isic2017.py', 'multitask/three_tasks_r18_synthetic.py'])
def test_the_text_is_mmengines_and_formatted_where_it_is_new(name, monkeypatch):
    statement_formatter()
    from yapf.yapflib import yapf_api  # only now, since mmskin imports it without its cache

    cfg, format_code, formatted = load_config(FOLDER / name), yapf_api.FormatCode, []

    def counted(text, **style):
        formatted.append(text)
        return format_code(text, **style)

    statement_formatter.cache_clear()
    monkeypatch.setattr(yapf_api, 'FormatCode', counted)
    text, whole = cfg.pretty_text, len(formatted)
    cfg.work_dir = 'elsewhere'
    changed = cfg.pretty_text
    assert formatted[whole:] == ["work_dir='elsewhere'\n"]
    monkeypatch.setattr('mmskin.config.statement_formatter', lambda: format_code)
    assert cfg.pretty_text == changed != text
    statement_formatter.cache_clear()


def test_the_text_needs_no_cache_that_another_process_is_writing(tmp_path):
    cached = 'from yapf.yapflib import yapf_api'
    environment = {**os.environ, 'XDG_CACHE_HOME': str(tmp_path)}
    subprocess.run([sys.executable, '-c', cached], env=environment, check=True)
    for cache in tmp_path.rglob('*.pickle'):
        cache.write_bytes(b'')
    text = f'from mmskin.config import load_config; load_config({str(FOLDER / "fpm/r18_synthetic.py")!r}).pretty_text'
    subprocess.run([sys.executable, '-c', text], env=environment, check=True)


def test_weights_none_on_the_command_line():
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    options = parser.parse_args(['--cfg-options', 'model.backbone.chain.weights=None']).cfg_options
    cfg = load_config(FOLDER / 'fpm' / 'r101_isic2017.py', options=options)
    assert cfg.model.backbone.chain.weights is None


class TestStageConfigs:
    @staticmethod
    def config(**settings):
        base = dict(
            work_dir='work',
            model=dict(type='Net', frozen=[], tasks=dict(a=1, b=2)),
            train_cfg=dict(by_epoch=True, max_epochs=9),
            param_scheduler=[dict(type='A'), dict(type='B')],
        )
        return Config({**base, **settings})

    def test_overrides_are_the_stages_own(self):
        stages = [
            dict(name='one', model=dict(frozen=['shared'], tasks=dict(b=3)), train_cfg=dict(max_epochs=2)),
            dict(name='two', param_scheduler=[dict(type='C')], extra=dict(hook=1)),
            dict(name='three'),
        ]
        one, two, three = stage_configs(self.config(stages=stages))
        assert one.model == dict(type='Net', frozen=['shared'], tasks=dict(a=1, b=3))
        assert one.train_cfg == dict(by_epoch=True, max_epochs=2)
        assert two.model == three.model == dict(type='Net', frozen=[], tasks=dict(a=1, b=2))
        assert (two.train_cfg.max_epochs, two.param_scheduler, two.extra) == (9, [dict(type='C')], dict(hook=1))
        assert [len(stage.param_scheduler) for stage in (one, three)] == [2, 2]
        assert 'extra' not in one
        assert 'extra' not in three

    def test_dotted_names(self):
        one, two = stage_configs(
            self.config(
                stages=[{'name': 'one', 'train_cfg.max_epochs': 2, 'param_scheduler.1.end': 5}, {'name': 'two'}]
            )
        )
        assert (one.train_cfg.max_epochs, one.param_scheduler[1].end) == (2, 5)
        assert (two.train_cfg.max_epochs, two.param_scheduler[1]) == (9, dict(type='B'))

    def test_each_has_its_name_and_folder(self):
        stages = stage_configs(self.config(stages=[dict(name='one'), dict(name='two')]))
        assert [(cfg.stage, cfg.work_dir) for cfg in stages] == [('one', 'work/one'), ('two', 'work/two')]
        assert not any('stages' in cfg for cfg in stages)

    def test_the_whole_and_the_other_stages_stay_as_they_are(self):
        cfg = self.config(stages=[dict(name='one', model=dict(frozen=['x'])), dict(name='two')])
        before = copy.deepcopy(cfg.to_dict())
        one, two = stage_configs(cfg)
        one.model.frozen.append('y')
        one.param_scheduler.pop()
        one.model.tasks.a = 5
        assert cfg.to_dict() == before
        assert (two.model.tasks.a, two.model.frozen, len(two.param_scheduler)) == (1, [], 2)

    def test_the_command_line_wins_over_a_stage(self):
        stages = [dict(name='one', train_cfg=dict(max_epochs=3)), dict(name='two')]
        options = {'train_cfg.max_epochs': 7, 'stages.1.train_cfg.max_epochs': 2}
        cfg = self.config(stages=stages, command_line_options=options)
        assert [stage.train_cfg.max_epochs for stage in stage_configs(cfg)] == [7, 2]

    def test_repeated_names(self):
        with pytest.raises(ValueError, match='give each a name of its own'):
            stage_configs(self.config(stages=[dict(name='one'), dict(name='two'), dict(name='one')]))

    @pytest.mark.parametrize('name', ['../../x', '/x', 'a/b', '..', '', None, 1, 'a\nb'])
    def test_a_stage_has_a_folder_in_the_work_folder(self, name):
        with pytest.raises(ValueError, match="a stage's name .* files are named after it, so give another"):
            stage_configs(self.config(stages=[dict(name='one'), dict(name=name)]))

    @pytest.mark.parametrize('settings', [{}, dict(stages=[]), dict(stages=None)])
    def test_without_stages_the_config_is_one_run(self, settings):
        cfg = self.config(**settings)
        (only,) = stage_configs(cfg)
        assert (only.work_dir, only.to_dict()) == ('work', cfg.to_dict())
        only.model.type = 'Other'
        assert cfg.model.type == 'Net'


def test_a_yaml_config_runs_no_python(tmp_path):
    ran, config = tmp_path / 'ran', tmp_path / 'config.yml'
    config.write_text(f'model: !!python/object/apply:os.mkdir ["{ran}"]\n')
    with pytest.raises(Mistake, match='config.yml: could not determine a constructor'):
        read_config(config)
    assert not ran.exists()
    config.write_text('model: {size: !!python/tuple [1, 2]}\n')
    assert read_config(config).model.size == (1, 2)
