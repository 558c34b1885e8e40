"""A checkpoint that would run code is refused by every command that reads one, in one line."""

import os

import pytest
import torch

from mmskin import LesionInferencer
from mmskin.cli import main
from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.registry import MODELS

CONFIG = 'configs/fpm/r18_synthetic.py'
SMALL = ['--data-root', 'data', '--cfg-options', 'train_dataloader.batch_size=2', 'train_dataloader.num_workers=0']
SMALL += ['train_dataloader.persistent_workers=False', 'train_dataloader.dataset.pipeline.0.size=48']
FIRST_STAGE = '{"checkpoint": "evil.pth"}'


class Malicious:
    def __reduce__(self):
        return os.mkdir, ('made_by_the_file',)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a checkpoint that would make another folder in it."""
    monkeypatch.chdir(tmp_path)
    SyntheticLesions(seed=5, shape=(48, 64)).write('data', num_train=2, num_val=2, num_test=2)
    torch.save({'state_dict': {}, 'meta': {'epoch': 1, 'iter': 1}, 'optimizer': Malicious()}, 'evil.pth')
    return tmp_path


@pytest.mark.parametrize(
    'arguments',
    [
        ['train', CONFIG, *SMALL, 'load_from=evil.pth'],
        ['train', CONFIG, *SMALL, 'stages.1.load_from=evil.pth', 'stages.0.load_from=evil.pth'],
        ['train', CONFIG, *SMALL, 'model.backbone.chain.weights=evil.pth'],
        ['train', CONFIG, '--resume', '--work-dir', 'resumed', *SMALL],
        ['train', CONFIG, '--resume', '--work-dir', 'finished', *SMALL],
        ['test', CONFIG, 'evil.pth', '--data-root', 'data'],
        ['predict', 'data/ISIC-2017_Test_v2_Data', '--out-dir', 'out', '--model', CONFIG, '--checkpoint', 'evil.pth'],
        ['export', CONFIG, 'evil.pth', '--out', 'out.onnx'],
        ['gates', CONFIG, 'evil.pth', '--data-root', 'data'],
    ],
    ids=lambda arguments: ' '.join(arguments).replace(' '.join(SMALL), ''),
)
def test_command(arguments, folder, capfd):
    for work_dir in ('resumed', 'finished'):
        (folder / work_dir / 'cls').mkdir(parents=True)
        os.link('evil.pth', folder / work_dir / 'cls/evil.pth')
        (folder / work_dir / 'cls/last_checkpoint').write_text('evil.pth')
    (folder / 'finished/cls/stage.json').write_text(FIRST_STAGE)  # the second stage starts from it
    assert main(arguments) == 2
    (said,) = [line for line in capfd.readouterr().err.splitlines() if 'error:' in line]
    assert 'evil.pth: damaged, or no checkpoint that can be read without running code from it' in said
    assert not (folder / 'made_by_the_file').exists()


def test_inferencer(folder):
    with pytest.raises(ValueError, match='evil.pth: damaged'):
        LesionInferencer(CONFIG, 'evil.pth', device='cpu')
    assert not (folder / 'made_by_the_file').exists()


def test_a_config_inside_a_checkpoint_is_not_run(folder, capfd):
    """mmengine reads it, when it resumes, as it reads any Python config."""
    (folder / 'work').mkdir()
    meta = {'epoch': 1, 'iter': 1, 'config': "import os\nos.mkdir('made_by_the_file')\n", 'dataset_meta': {}}
    hub = {'log_scalars': {}, 'runtime_info': {}, 'resumed_keys': {}}
    weights = MODELS.build(load_config(CONFIG).model).state_dict()
    torch.save({'state_dict': weights, 'meta': meta, 'message_hub': hub}, 'work/epoch_1.pth')
    (folder / 'work/last_checkpoint').write_text('epoch_1.pth')
    one_stage = ['stages=None', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=9']
    assert main(['train', CONFIG, '--resume', '--work-dir', 'work', *SMALL, *one_stage]) == 0
    assert not (folder / 'made_by_the_file').exists()
