"""Submissions as tools/submit.py writes them, by one process and by two."""

import json
import shutil
import socket

import cv2
import forked
import pytest
import torch

from mmskin.config import load_config
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.evaluate import evaluate_checkpoint as run_test
from mmskin.evaluation.submission import score_submission
from mmskin.registry import MODELS

SMALL = {'test_dataloader.num_workers': 0, 'test_dataloader.dataset.pipeline.0.size': 48}


@pytest.fixture(scope='module')
def config(repository):
    return str(repository / 'configs/fpm/r18_synthetic.py')


@pytest.fixture(scope='module')
def checkpoint(config, tmp_path_factory):
    """Random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('weights') / 'random.pth'
    torch.save(MODELS.build(load_config(config).model).state_dict(), path)
    return path


def images_alone(root, target):
    """A copy of a set without its ground truth."""
    return shutil.copytree(root, target, ignore=shutil.ignore_patterns('*GroundTruth*'))


def test_native_images(config, checkpoint, real_data, tmp_path):
    """Masks have each image's own size, and score offline as the test itself says."""
    root = real_data / 'isic2017_native'
    if not root.is_dir():
        pytest.skip('native-size images are looked for in ../shared/data/isic2017_native')
    options = {**SMALL, 'test_dataloader.dataset.split': 'val', 'test_dataloader.dataset.partial_labels': True}
    cfg = load_config(config, str(tmp_path / 'work'), str(root), options=options)
    cfg.test_evaluator = [*cfg.test_evaluator[:3], dict(type='ChallengeSubmission', out_dir=str(tmp_path / 'out'))]
    metrics = run_test(cfg, checkpoint)
    scores = score_submission(tmp_path / 'out', root, 'val')
    for key in ('JA', 'DI', 'AC', 'sensitivity', 'specificity'):
        assert scores['segmentation'][key] == pytest.approx(metrics[f'seg/{key}'], abs=1e-12)
    for key in ('AUC', 'AP', 'sensitivity', 'specificity'):
        assert scores['mean'][key] == pytest.approx(metrics[f'cls/{key}_mean'], abs=1e-12)
    sizes = {path.stem: cv2.imread(str(path)).shape[:2] for path in (root / 'ISIC-2017_Validation_Data').glob('*.jpg')}
    assert len(set(sizes.values())) > 1
    for image_id, size in sizes.items():
        mask = cv2.imread(str(tmp_path / f'out/Part1/{image_id}_segmentation.png'), cv2.IMREAD_UNCHANGED)
        assert mask.shape == size
        assert mask.max() in (0, 255)


@pytest.mark.slow
def test_two_processes_without_ground_truth(repository, config, checkpoint, tmp_path):
    """Eleven images: the second process pads with one that the first has too."""
    SyntheticLesions(seed=9, shape=(48, 64)).write(tmp_path / 'set', 3, 3, 11)
    root = images_alone(tmp_path / 'set', tmp_path / 'bare')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    words = [repository / 'tools/submit.py', config, checkpoint, tmp_path / 'two', '--work-dir', tmp_path / 'work']
    words += ['--data-root', root, '--launcher', 'pytorch']
    words += ['--cfg-options', *(f'{key}={value}' for key, value in SMALL.items())]
    together = {'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    programs = [
        forked.Program(*words, environment={**together, 'RANK': rank, 'LOCAL_RANK': rank}) for rank in ('0', '1')
    ]
    for ended in [program.wait() for program in programs]:
        assert ended.returncode == 0, ended.stderr[-3000:]
    results = json.loads((tmp_path / 'work/results.json').read_text())
    assert results.keys() == {'per_image', 'sha256'}  # nothing to score against
    assert results['per_image']['rows'] == 11
    assert len((tmp_path / 'two/Part3.csv').read_text().splitlines()) == 11
    score_submission(tmp_path / 'two', tmp_path / 'set')  # no image missing, none too many
