"""A mistake of the user's is answered in one line and with status 2, by commands and tools alike."""

import argparse
import importlib
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from mmskin.cli import main
from mmskin.config import SettingsAction
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.inference.zoo import DEFAULT_MODEL, model_folder
from mmskin.program import run_tool

CONFIG = 'configs/fpm/r18_synthetic.py'
STREAM = 'configs/multitask/stream_r18_synthetic.py'
FOLD = 'suite/m/seed0/fold0/results.json'
ZOO = str(model_folder(DEFAULT_MODEL).config)
READ_BASE = 'from mmengine.config import read_base\n\nwith read_base():\n'


@pytest.fixture
def folder(tmp_path, monkeypatch, repository):
    """The working folder: a few files that are not what they are taken for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])  # to which a config's folder is added
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    (tmp_path / 'no_model.py').write_text('x = 1\n')
    (tmp_path / 'no_base.py').write_text(f'{READ_BASE}    from .nowhere import *\n')
    (tmp_path / 'trains_only.py').write_text('model = dict()\n')
    (tmp_path / 'no_dataset.py').write_text('model = dict()\ntest_dataloader = dict(batch_size=1)\n')
    (tmp_path / 'file').write_text('')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'stream' / 'shards').mkdir(parents=True)
    (tmp_path / 'stream' / 'shards' / '0.tar').touch()
    (tmp_path / 'table_is_a_folder' / 'Part3.csv').mkdir(parents=True)
    (tmp_path / 'suite' / 'm' / 'seed0').mkdir(parents=True)
    (tmp_path / 'suite' / 'm' / 'seed0' / 'fold0').symlink_to(repository / 'results/passing/none/seed0/fold0')
    (tmp_path / 'suite' / 'folds.csv').write_text('image_id,fold,group\n')
    return tmp_path


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A folder of a few images."""
    folder = tmp_path_factory.mktemp('data')
    SyntheticLesions(seed=5, shape=(48, 64)).write(folder, num_train=16, num_val=2, num_test=2)
    return folder


@pytest.fixture
def call(repository, monkeypatch):
    """Run a command, or a tool by its file; gives the status."""

    def call(name, *arguments):
        if not name.endswith('.py'):
            return main([name, *arguments])
        spec = spec_from_file_location(f'tool_{name[:-3]}', repository / 'tools' / name)
        tool = module_from_spec(spec)
        spec.loader.exec_module(tool)
        monkeypatch.setattr(sys, 'argv', [name, *arguments])
        return run_tool(tool)

    return call


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        (['train', 'broken.py'], "broken.py, line 1: '(' was never closed"),
        (['train', 'no_model.py'], 'no_model.py: has no model'),
        (['train', 'file'], 'file: '),
        (['train', 'no_base.py'], 'no_base.py: '),
        (['train', ZOO], 'config.py: has no train_dataloader, so there is nothing to train'),
        (['train', ZOO, '--amp'], 'config.py: has no optim_wrapper, so there is nothing to train'),
        (['test', 'trains_only.py', 'x.pth', '--split', 'val'], 'trains_only.py: has no test_dataloader'),
        (['submit.py', 'trains_only.py', 'x.pth', 'out'], 'trains_only.py: has no test_dataloader'),
        (['serve', '--queue', '0'], '--timeout and --ray-address go with --api'),
        (['predict', 'file', '--ray-address', 'a:1'], '--ray-address goes with --on ray'),
        (['serve', '--port', '99999'], '--port 99999: give a number from 0 to 65535'),
        (['benchmark', 'suite.py', '--report-only', '--methods', 'a'], '--methods says what is run, and nothing is'),
        (['score', 'a', 'b', '--compare', 'TransFuse', 'EGE-UNet'], 'one folder of predictions; leave b out'),
        (['train', STREAM, '--check', '--data-root', 'stream'], 'of the TarStream in train_dataloader can be neither'),
        (['cache', STREAM, 'out', '--data-root', 'stream'], 'of the TarStream in train_dataloader can be neither'),
        (['cache', CONFIG, 'out', '--workers', '-1'], '--workers -1: give 0 or more'),
        (['train', CONFIG, '--work-dir', 'a\nb'], r"work_dir='a\nb' has a control character"),
        (['train', CONFIG, '--seed', '-1'], 'seed=-1 is not between'),
        (['train', CONFIG, '--seed', '1', '--cfg-options', 'randomness.seed=2'], 'given as 1 and, by an option, as 2'),
        (['train', CONFIG, '--work-dir', 'a', '--cfg-options', 'work_dir=b'], 'given as a and, by an option, as b'),
        (
            ['train', CONFIG, '--dry-run', '--cfg-options', 'train_cfg.max_epochs=0'],
            'max_epochs=0; give a whole number',
        ),
        (['benchmark', 'suite.py', '--processes', '0'], '--processes 0: give a whole number from 1'),
        (['train', CONFIG, '--work-dir', 'file'], 'file: File exists'),
        (['train', CONFIG, '--cfg-options', 'model.nope=3'], "MultiTaskModel has no option 'nope'"),
        (['train', CONFIG, '--cfg-options', 'model.type=Nope'], "No model is registered as 'Nope'"),
        (['train', CONFIG, '--cfg-options', 'stages.7.x=1'], 'stages.7.x cannot be set (Index 7 exceeds'),
        (['train', 'no_dataset.py'], "a loader's dataset=None; give a dict"),
        (['test', 'no_dataset.py', 'x.pth'], "a loader's dataset=None; give a dict"),
        (['train', CONFIG, '--data-root', 'nowhere'], 'nowhere/ISIC-2017_Training_Data is missing'),
        (['test', CONFIG, 'nowhere.pth', '--data-root', 'data'], 'nowhere.pth: no such checkpoint'),
        (['test', CONFIG, 'empty', '--data-root', 'data'], 'last_checkpoint: not there'),
        (['export', '--out', 'a\0b.onnx'], r"the argument 'a\x00b.onnx' has a NUL character in it"),
        (['predict', 'file', '--out-dir', 'a\0b'], r"the argument 'a\x00b' has a NUL character in it"),
        (['submit.py', CONFIG, 'x.pth', 'a\0b'], r"the argument 'a\x00b' has a NUL character in it"),
        (['export', '--out', '/proc/nowhere/x.onnx'], '/proc/nowhere: No such file or directory'),
        (['browse_dataset.py', CONFIG, '--data-root', 'nowhere'], 'nowhere/ISIC-2017_Training_Data is missing'),
        (['browse_dataset.py', CONFIG, '--data-root', 'data', '--count', '-1'], 'there is nothing to show'),
        (['browse_dataset.py', CONFIG, '--out', 'x.abc'], 'x.abc: .abc is not a format for pictures'),
        (['gates', CONFIG, 'x.pth', '--num-images', '0'], 'num_images=0'),
        (['gates', 'trains_only.py', 'x.pth', '--split', 'val'], 'trains_only.py: has no test_dataloader'),
        (['list', '--import', '..x'], "'..x' cannot be imported"),
        (['select_data.py', 'data', 'data', '--batch-size', '0'], 'batch_size=0'),
        (['select_data.py', 'data', 'data', '--labels', 'nowhere.csv'], 'nowhere.csv'),
        (['select_data.py', 'data', 'data', '--network', 'type=TimmChain', 'model=resnet18'], 'name its weights, too'),
        (['browse_dataset.py', 'nowhere.py'], 'nowhere.py: no such config'),
        (['find_duplicates.py', 'nowhere'], 'nowhere'),
        (['find_duplicates.py', 'data', '--splits', 'train', 'train'], 'has 1 of the splits'),
        (['find_duplicates.py', 'data', '--threshold', 'nan'], 'threshold=nan: give a distance'),
        (['find_duplicates.py', 'data', '--sheet', 'x.abc'], 'x.abc: .abc is not a format for pictures'),
        (['score_submission.py', 'table_is_a_folder', 'data'], 'Part3.csv: Is a directory'),
        (['compare_tests.py', 'suite/m/seed0', 'suite/m/seed0'], 'folds.csv: lacks ISIC_'),
        (['prepare', 'isic2017', 'empty', '--out', 'data_folder', '--offline'], 'empty holds none of the archives'),
        (['prepare', 'isic2016', '--out', 'data_folder'], 'isic2016 is not known; give isic2017, ham10000'),
        (['publish', CONFIG, 'nowhere.pth', 'out'], 'nowhere.pth: no such checkpoint'),
        (['publish', CONFIG, 'empty', 'out'], 'last_checkpoint: not there'),
        (['publish', DEFAULT_MODEL, 'out', '--audit', FOLD], 'results.json: give a file named audit.json'),
        (['publish', DEFAULT_MODEL, 'out', '--results', 'x/test.json'], 'test.json: give a file named results.json'),
        (['test', DEFAULT_MODEL, '--no-report', '--calibrate-on', 'x.csv'], '--calibrate-on is for the report'),
        (['score_submission.py', 'nowhere', 'data'], 'nowhere'),
        (['select_data.py', 'nowhere', 'nowhere'], 'nowhere/ISIC-2017_Training_Data is missing'),
        (['submit.py', 'nowhere.py', 'nowhere.pth', 'out'], 'nowhere.py: no such config'),
    ],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_a_mistake(command, message, folder, call, capfd):
    if 'data' in command:
        SyntheticLesions(seed=5, shape=(48, 64)).write('data', num_train=2, num_val=2, num_test=2)
    assert call(*command) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if 'error:' in line]
    assert len(said) == 1
    assert message in said[0]
    assert not (folder / 'out').exists()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = 1\n1 / 0\n', 'file.py, line 2: ZeroDivisionError: division by zero'),
        ('\n\nlr = rate\n', "file.py, line 3: NameError: name 'rate' is not defined"),
        (b'# \xff\n', "file.py: 'utf-8' codec can't decode byte 0xff"),
        ('a = 1\nb = \0\n', 'null bytes'),
        ('a = ' + '-' * 100_000 + '1\n', 'file.py: MemoryError'),
        ('def f():\n    f()\n\nf()\n', 'file.py, line 2: RecursionError: maximum recursion depth'),
        (f'{READ_BASE}    from .file import *\n', 'maximum recursion depth'),
        ('import sys\n\nsys.exit(0)\n', 'file.py, line 3: SystemExit: 0'),
        ('import json\n\na = json.loads("{")\n', 'file.py, line 3: JSONDecodeError: Expecting property'),
        ('from nowhere_at_all import X\n\na = dict(type=X)\n', "file.py, line 1 for No module named 'nowhere_at_all'"),
        ('from torch.nn import Nope\n\na = dict(type=Nope)\n', 'Failed to import Nope from torch.nn in'),
        (f'{READ_BASE}    from .broken import *\n', "broken.py, line 1: '(' was never closed"),
        ('_base_ = ["broken.py"]\n', "broken.py, line 1: '(' was never closed"),
        ('_base_ = ["nowhere.py"]\n', 'nowhere.py'),
        ('_base_ = ["file"]\n', 'Only py/yml/yaml/json type are supported'),
    ],
)
@pytest.mark.parametrize('command', ['train', 'benchmark'])
def test_a_file_that_cannot_be_executed(command, text, message, folder, capfd):
    (folder / 'file.py').write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main([command, 'file.py']) == 2
    said = capfd.readouterr().err
    assert said.startswith(f'mmskin {command}: error: ')
    assert said.count('\n') == 1
    assert message in said


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def x(:\n', 'plugin.py, line 1: invalid syntax'),
        ('\n\n1 / 0\n', 'plugin.py, line 3: ZeroDivisionError'),
        ('import nowhere_at_all\n', "plugin.py, line 1: No module named 'nowhere_at_all'"),
        ('from mmskin.errors import Mistake\n\nraise Mistake("install foo")\n', 'error: install foo'),
        (None, "No module named 'plugin'"),
    ],
)
@pytest.mark.parametrize(
    'config',
    [
        'from plugin import X\n\nmodel = dict(type=X)\n',
        'custom_imports = dict(imports=["plugin"])\nmodel = dict()\n',
        'custom_imports = dict(imports="plugin")\nmodel = dict()\n',
    ],
)
def test_a_plugin_that_cannot_be_imported(config, text, message, folder, capfd):
    (folder / 'file.py').write_text(config)
    if text:
        (folder / 'plugin.py').write_text(text)
    importlib.invalidate_caches()
    assert main(['train', 'file.py']) == 2
    said = capfd.readouterr().err
    assert said.count('\n') == 1
    assert message in said


@pytest.mark.parametrize('value', ['3', '"x"', '["x"]', 'dict(imports=3)', 'dict(modules=["x"])', 'dict(imports=[3])'])
def test_custom_imports_that_are_none(value, folder, capfd):
    (folder / 'file.py').write_text(f'model = dict()\ncustom_imports = {value}\n')
    assert main(['train', 'file.py']) == 2
    assert capfd.readouterr().err.count('\n') == 1


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('optim_warpper.optimizer.lr=1', 'optim_warpper.optimizer.lr is not a setting; did you mean optim_wrapper'),
        ('data_root=x', 'data_root is not a setting; '),
        ('stages.0.train_cgf.max_epochs=1', 'stages[0]: train_cgf is not a setting; did you mean train_cfg'),
        ('stages=[1]', 'stages[0]=1; give a dict'),
        ('stages.0.train_cfg=3', 'stages[0]: train_cfg=3; give a dict'),
        ('optim_wrapper=[]', 'optim_wrapper=[]; give a dict'),
        ('train_dataloader.dataset.pipeline=LoadImage', 'give a dict, whose pipeline is a list of dicts'),
        ('model.backbone.branches.cls=[]', 'SplitBackbone(branches='),
        ('model.tasks.cls=3', 'MultiTaskModel('),
        ('model.backbone.chain=3', 'SplitBackbone(chain=3): give dict'),
        ('stages.0=1', 'stages.0 cannot be set'),
        ('model=3', 'model=3; give a dict'),
        ('model.use_passing=2', 'MultiTaskModel(use_passing=2): give bool'),
        ('model.frozen=shared', "MultiTaskModel(frozen='shared'): give Sequence[str]"),
        ('model.tasks.cls.head.num_classes=0', 'ClsHead(num_classes=0): give 1 or more'),
        ('model.tasks.cls.head.num_classes=True', 'ClsHead(num_classes=True): give int'),
        ('model.tasks.cls.head.num_classes=three', "ClsHead(num_classes='three'): give int"),
        ('model.tasks.cls.loss_weight=x', "Classification(loss_weight='x'): give float"),
        ('model.tasks.cls.loss_weight=nan', 'Classification(loss_weight=nan): give float'),
        ('model.tasks.cls.loss_weight=-1', 'Classification(loss_weight=-1): give 0 or more'),
        ('train_dataloader.dataset.pipeline.2.zoom=(1,inf)', 'RandomWarp(zoom=(1, inf)): give tuple[float, float]'),
        ('model.tasks.seg.head.rates=(0,1)', 'rates=(0, 1) of ASPPHead: give one or more, each from 1'),
        ('model.tasks.seg.head.rates=()', 'rates=() of ASPPHead: give one or more, each from 1'),
        ('model.data_preprocessor.std=[0,64,64]', 'std=[0, 64, 64]; give numbers above 0'),
        ('model.data_preprocessor.mean=[nan,1,1]', 'mean=[nan, 1.0, 1.0]; give numbers'),
        ('optim_wrapper.accumulative_counts=1.5', 'accumulative_counts=1.5; give a whole number from 1'),
        ('optim_wrapper.clip_grad.max_norm=-1', 'clip_grad.max_norm=-1; give a number above 0'),
        ('train_cfg.max_epochs=-1', 'train_cfg.max_epochs=-1; give a whole number from 1'),
        ('train_cfg.max_epochs=two', "train_cfg.max_epochs='two'; give a whole number from 1"),
        ('train_cfg.max_epoch=1', "EpochBasedTrainLoop has no option 'max_epoch'; did you mean max_epochs?"),
        ('optim_wrapper.optimizer.type=-1', 'r18_synthetic.py (traceback in '),
        ('optim_wrapper.optimizer.type=adam', "No optimizer is registered as 'adam'. Near matches: Adam"),
        ('optim_wrapper.optimizer.type=Qqqqqq', "No optimizer is registered as 'Qqqqqq'"),
        ('param_scheduler=[{"type": "Qqqqqq"}]', "No parameter scheduler is registered as 'Qqqqqq'. There are: "),
        (
            'model.frozen=["shared","passing","cls","seg"]',
            'no part of the network is trained; leave one out of model.fr',
        ),
        ('stages.1.name=CLS', "the stages are named ['cls', 'CLS', 'joint']; give each a name of its own"),
        (
            'custom_hooks=[{"type": "EarlyStoppingHook", "monitor": ["cls/AC"]}]',
            "EarlyStoppingHook(monitor=['cls/AC']): give str",
        ),
        ('default_hooks.checkpoint.interval=1.5', 'CheckpointHook(interval=1.5): give int'),
        ('custom_hooks=[{"type": "CopyBranc"}]', "No hook is registered as 'CopyBranc'. Near matches: CopyBranch"),
        ('val_evaluator=[{"type": "Nope"}]', "No metric is registered as 'Nope'"),
        ('train_dataloader.dataset.pipeline.0.size=-5', 'LoadImage(size=-5): give 1 or more'),
        ('train_dataloader.dataset.pipeline.0.smallest_crop=0', 'smallest_crop=0 of LoadImage'),
        ('train_dataloader.dataset.pipeline.0.size=4.5', 'LoadImage(size=4.5): give int | None'),
        ('train_dataloader.batch_size=0', 'batch_size'),
        ('train_dataloader.num_workers=-1', 'num_workers'),
        ('train_dataloader.sampler=DefaultSampler', "sampler='DefaultSampler' of a loader; give a dict"),
        ('train_dataloader.sampler=True', 'sampler=True of a loader; give a dict'),
        ('stages=3', 'stages=3; give a list of dicts'),
        ('auto_scale_lr={"enable": True, "base_batch_size": 0}', 'auto_scale_lr.base_batch_size=0; give the batch'),
        ('auto_scale_lr={"enable": True, "base_batch_size": -8}', 'auto_scale_lr.base_batch_size=-8; give the'),
        ('stages.0.auto_scale_lr={"base_batch_size": "x"}', "stages[0]: auto_scale_lr.base_batch_size='x'; give the"),
        ('auto_scale_lr=16', 'auto_scale_lr=16; give a dict'),
        ('launcher=slurm', "launcher='slurm', but SLURM_PROCID is not set, so srun did not start this process"),
        ('launcher=pytorch', "launcher='pytorch', but RANK is not set, so torchrun"),
        ('launcher=mpi', "launcher='mpi'; give pytorch, slurm or none"),
        ('model.tasks={"_delete_": True}', "passing names 'layer3.1', where no task has a branch; name them in tasks"),
        ('model.tasks={}', 'model.tasks={} would change nothing, since a dict is merged'),
    ],
)
def test_a_setting_that_makes_no_sense(option, message, data, folder, capfd):
    assert main(['train', CONFIG, '--data-root', str(data), '--cfg-options', option]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if 'error:' in line]
    assert len(said) == 1
    assert message in said[0]


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('stages.2.optim_wrapper.optimizer.rl=1', "AdamW has no option 'rl'"),
        ('stages.1.custom_hooks=[{"type": "CopyBranc"}]', "No hook is registered as 'CopyBranc'"),
        (
            'stages.1.custom_hooks=[{"type":"CopyBranch","source":"cls","target":"sag"}]',
            'CopyBranch: the network has no backbone.branches.sag; name two of its tasks',
        ),
        ('stages.2.param_scheduler=[{"type": "Nope"}]', "No parameter scheduler is registered as 'Nope'"),
        ('stages.1.train_dataloader.dataset.data_root=nowhere', 'nowhere/ISIC-2017_Training_Data is missing'),
    ],
)
def test_a_mistake_in_a_later_stage_is_said_before_the_first_is_trained(option, message, data, folder, capfd):
    assert main(['train', CONFIG, '--data-root', str(data), '--cfg-options', option]) == 2
    said = capfd.readouterr()
    assert message in said.err
    assert 'training' not in said.out


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('optim_warpper = dict()', 'file.py: nothing reads optim_warpper; did you mean optim_wrapper?'),
        ('train_dataloaders = {}', 'file.py: nothing reads train_dataloaders; did you mean train_dataloader?'),
        ('train_dataloaders = {}\nother = train_dataloaders', 'has no train_dataloader'),
        ('my_size = 3', 'has no train_dataloader'),
        ('stages = [dict(name="a", modle=dict())]', 'stages[0]: modle is not a setting; did you mean model'),
    ],
)
def test_a_misspelt_setting_of_a_config(line, message, folder, capfd):
    (folder / 'file.py').write_text(f'model = dict()\n{line}\n')
    assert main(['train', 'file.py']) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('[{"type": "A", "of": {"b": (1, None)}}]', [{'type': 'A', 'of': {'b': (1, None)}}]),
        ("{'a': 1e-3}", {'a': 1e-3}),
        ('"a,b"', 'a,b'),
        ('1,2', [1, 2]),
        ('(1,2)', (1, 2)),
        ('[a, b]', ['a', 'b']),
        ('true', True),
        ('None', None),
        ('007', 7),
        ('x=y', 'x=y'),
        ('', ''),
    ],
)
def test_the_value_of_an_option(text, value):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=SettingsAction)
    assert parser.parse_args(['--cfg-options', f'a.b={text}']).cfg_options == {'a.b': value}


def test_fewer_images_than_a_batch(folder, capfd):
    SyntheticLesions(seed=5, shape=(48, 64)).write('data', num_train=3, num_val=2, num_test=2)
    assert main(['train', CONFIG, '--data-root', 'data']) == 2
    assert '3 images do not fill a batch of 16' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('option', 'message'),
    [('train_cfg', 'name=value'), ('stages=[(1]', 'brackets'), ('model={a: 1}', 'a Python dict'), ('=1', 'name=value')],
)
def test_an_option_that_is_none(option, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['train', CONFIG, '--cfg-options', option])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_no_room_for_temporary_files_is_no_fault_of_the_config(tmp_path, capsys):
    """mmengine reads a copy of it there."""
    resource = pytest.importorskip('resource', reason='a limit to what is written')
    config, (soft, hard) = tmp_path / 'mine.py', resource.getrlimit(resource.RLIMIT_FSIZE)
    config.write_text(f'tasks = {["seg"] * 1000}\n')
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        assert main(['config', str(config)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f'{config}: no room for temporary files (File too large); name a folder by TMPDIR' in capsys.readouterr().err
