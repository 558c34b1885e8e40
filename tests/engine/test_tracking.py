"""What a training logs, and that it can be read back where it was logged."""

import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import weakref
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer

from mmskin.benchmark.fingerprint import settings_digest
from mmskin.cli.train import BACKENDS
from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint
from mmskin.engine.hooks.prediction_pictures import PredictionPictures
from mmskin.engine.stages import build_runner, run_stages
from mmskin.errors import Mistake
from mmskin.registry import VISBACKENDS
from mmskin.structures import TaskSample

STEPS = 3  # an epoch of the tiny training
SCORES = {'cls': 'val/cls/AC', 'seg': 'val/seg/JA', 'joint': 'val/seg/JA'}


@pytest.fixture(scope='module')
def load(repository, data_root, tiny):
    """The tiny config for a work folder, with further options."""
    path = repository / 'configs/fpm/r18_synthetic.py'

    def read(work_dir, options=None, backend=None):
        cfg = load_config(
            path, str(work_dir), str(data_root), options={**tiny, 'train_cfg.val_interval': 1, **(options or {})}
        )
        cfg.visualizer.vis_backends += [backend] if backend else []
        return cfg

    return read


def train_and_resume(load, work_dir, backend):
    """One epoch of the diagnosis alone, and a second one in a training that resumes it."""
    alone = {'stages': None, 'model.active_tasks': ['cls'], 'default_hooks.visualization.num_images': 2}
    run_stages(load(work_dir, {**alone, 'train_cfg.max_epochs': 1}, dict(backend)))
    (work_dir / 'stage.json').unlink()
    run_stages(load(work_dir, {**alone, 'train_cfg.max_epochs': 2}, dict(backend)), resume=True)


@pytest.fixture(scope='module')
def work_dir(load, tmp_path_factory):
    """A work folder trained through all stages with nothing but the defaults."""
    folder = tmp_path_factory.mktemp('tracked')
    run_stages(load(folder, {'default_hooks.visualization.num_images': 6}))
    yield folder
    shutil.rmtree(folder)


def events(folder):
    """What TensorBoard shows of a folder with one run, which may have several files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = {path.parent for path in folder.rglob('events.out.tfevents*')}
    return EventAccumulator(str(run), size_guidance={'images': 0, 'scalars': 0}).Reload()


def steps(series):
    return [point.step for point in series]


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['cls', 'seg', 'joint'])
def test_every_stage_is_a_run_of_its_own_in_tensorboard(stage, work_dir):
    found = events(work_dir / stage)
    for name in ('train/loss', 'train/lr'):
        assert steps(found.Scalars(name)) == [1, 2, 3, 4, 5, 6]
    assert steps(found.Scalars(SCORES[stage])) == [STEPS, 2 * STEPS]
    assert all(0 <= event.value <= 1 for event in found.Scalars(SCORES[stage]))


@pytest.mark.slow
@pytest.mark.parametrize('stage', ['cls', 'seg', 'joint'])
def test_the_same_images_are_drawn_at_every_validation(stage, work_dir):
    found = events(work_dir / stage)
    names = found.Tags()['images']
    assert len(names) == 6
    assert all(name.startswith('predictions/') for name in names)
    for name in names:
        assert steps(found.Images(name)) == [STEPS, 2 * STEPS]
        picture = np.frombuffer(found.Images(name)[0].encoded_image_string, np.uint8)
        assert cv2.imdecode(picture, cv2.IMREAD_COLOR).std() > 10
    assert len([*(work_dir / stage).glob('*/vis_data/vis_image/predictions/*.png')]) == 12


@pytest.mark.slow
def test_what_routes_do_is_logged_where_features_are_passed(work_dir):
    found = events(work_dir / 'joint')
    for route in ('layer3.1/cls2seg', 'layer3.1/seg2cls'):
        for name in ('open', 'open_sd', 'closing_cls', 'closing_seg'):
            series = found.Scalars(f'val/routes/{route}/{name}')
            assert steps(series) == [STEPS, 2 * STEPS]
            assert all(0 <= event.value <= 1 for event in series)
        (log,) = (work_dir / 'joint').glob('*/*.log')
        assert len(re.findall(rf'{route}, \d+ images: gate open 0\.\d', log.read_text())) == 2
    assert not any('routes' in name for name in events(work_dir / 'seg').Tags()['scalars'])


@pytest.fixture(scope='module')
def mlflow_server(tmp_path_factory):
    """The address of an MLflow server of its own, with its database and files in a temporary folder."""
    if find_spec('mlflow') is None:
        pytest.skip("no mlflow here: pip install '.[mlflow]'")
    folder = tmp_path_factory.mktemp('mlflow')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{probe.getsockname()[1]}'
    command = [sys.executable, '-W', 'ignore', '-m', 'mlflow', 'server', '--workers', '1']
    command += ['--host', address.split(':')[0], '--port', address.split(':')[1]]
    command += [
        '--backend-store-uri',
        f'sqlite:///{folder}/mlflow.db',
        '--artifacts-destination',
        str(folder / 'files'),
    ]
    with (folder / 'log').open('w') as log:
        environment = {**os.environ, 'MLFLOW_SERVER_ENABLE_JOB_EXECUTION': 'false'}  # seven processes more
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(f'http://{address}/health', server, folder / 'log')
            yield f'http://{address}'
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # and its workers; all that it keeps is temporary
            server.wait(30)


def wait_for(address, server, log, seconds=600):
    """Until a server answers; the first start makes its database."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=5).read()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f'no answer from {address}: {Path(log).read_text()[-2000:]}')


@pytest.mark.slow
def test_mlflow_server_has_numbers_pictures_and_one_run_after_a_resume(load, mlflow_server, tmp_path):
    from mlflow import MlflowClient

    train_and_resume(load, tmp_path / 'tiny', {'type': 'MLflowVisBackend', 'tracking_uri': mlflow_server})

    client = MlflowClient(mlflow_server)
    (run,) = client.search_runs([client.get_experiment_by_name('mmskin').experiment_id])
    assert run.info.run_name == 'tiny'
    assert run.info.status == 'FINISHED'
    assert run.data.params['randomness.seed'] == '0'
    assert steps(client.get_metric_history(run.info.run_id, 'train/loss')) == [1, 2, 3, 4, 5, 6]
    assert steps(client.get_metric_history(run.info.run_id, 'train/lr')) == [1, 2, 3, 4, 5, 6]
    assert steps(client.get_metric_history(run.info.run_id, 'val/cls/AC')) == [STEPS, 2 * STEPS]
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, 'images') if file.path.endswith('.png')]
    assert len(pictures) == 4  # two images at two validations
    file = client.download_artifacts(run.info.run_id, pictures[0], str(tmp_path))
    assert cv2.imread(file).std() > 10
    assert 'config.py' in [file.path for file in client.list_artifacts(run.info.run_id)]


@pytest.mark.slow
def test_wandb_offline_writes_numbers_and_pictures(load, tmp_path, monkeypatch):
    if find_spec('wandb') is None:
        pytest.skip("no wandb here: pip install '.[wandb]'")
    monkeypatch.setenv('WANDB_MODE', 'offline')
    train_and_resume(load, tmp_path / 'tiny', {'type': 'WandbVisBackend'})

    runs = [*(tmp_path / 'tiny').glob('*/vis_data/wandb/offline-run-*')]
    assert len({run.name.rpartition('-')[2] for run in runs}) == 1  # one id, so W&B joins them when they are sent
    assert len([picture for run in runs for picture in run.rglob('files/media/images/predictions/*.png')]) == 4
    logged = b''.join(file.read_bytes() for run in runs for file in run.glob('*.wandb'))
    for name in (b'train/loss', b'train/lr', b'val/cls/AC', b'iter'):
        assert name in logged


@pytest.mark.parametrize('service', BACKENDS)
def test_a_missing_library_is_told_before_training(service, load, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, service, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install '\.\[{service}\]'"):
        build_runner(load(tmp_path, {'stages': None}, {'type': BACKENDS[service]}))


def test_a_service_that_takes_no_run_is_named(tmp_path, monkeypatch):
    wandb = pytest.importorskip('wandb', reason="no wandb here: pip install '.[wandb]'")
    wandb.teardown()  # it keeps the settings of the tests before
    monkeypatch.delenv('WANDB_API_KEY', raising=False)
    monkeypatch.setenv('WANDB_MODE', 'online')
    monkeypatch.setenv('NETRC', str(tmp_path / 'netrc'))
    with pytest.raises(Mistake, match=r'W&B takes no runs \(.*"wandb login", or set WANDB_MODE=offline'):
        _ = VISBACKENDS.build({'type': 'WandbVisBackend', 'save_dir': str(tmp_path)}).experiment


def test_a_run_to_go_on_with_that_is_gone_is_named(tmp_path):
    pytest.importorskip('mlflow', reason="no MLflow here: pip install '.[mlflow]'")
    options = {'tracking_uri': (tmp_path / 'runs').as_uri(), 'save_dir': str(tmp_path)}
    (tmp_path / 'mlflow_run_id').write_text('0' * 32)
    backend = VISBACKENDS.build({'type': 'MLflowVisBackend', **options})
    with pytest.raises(Mistake, match=f'MLflow takes no runs there .*or remove {tmp_path}/mlflow_run_id'):
        _ = backend.experiment


def test_where_it_logs_does_not_change_what_a_result_depends_on(load, tmp_path):
    plain = settings_digest(load(tmp_path))
    assert plain == settings_digest(load(tmp_path, {'default_hooks.visualization.num_images': 0}))
    assert plain == settings_digest(load(tmp_path, backend={'type': 'WandbVisBackend'}))
    assert plain != settings_digest(load(tmp_path, {'train_cfg.max_epochs': 9}))


class Images:
    """A data set of which only labels and ids are known."""

    metainfo = dict(classes=('melanoma', 'nevus'))

    def __init__(self, *labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def get_data_info(self, index):
        label = self.labels[index]
        return {'image_id': f'image {index}', **({} if label is None else {'gt_label': label})}


@pytest.mark.parametrize(('count', 'chosen'), [(4, [4, 3, 0, 5]), (0, []), (9, [4, 3, 0, 5, 1, 2])])
def test_pictures_are_of_each_class_in_turn(count, chosen):
    hook = PredictionPictures(count)
    hook.before_val_epoch(SimpleNamespace(val_dataloader=SimpleNamespace(dataset=Images(1, 1, 1, 0, None, 0))))
    assert hook.chosen == [f'image {index}' for index in chosen]


@pytest.mark.parametrize('known', [[], ['gt_label'], ['cls_score', 'cls_label'], ['gt_sem_seg'], ['seg_mask']])
def test_a_picture_of_whatever_is_known(known):
    mask = PixelData(data=torch.zeros(1, 40, 60, dtype=torch.uint8))
    mask.data[:, 10:30, 10:30] = 1
    everything = dict(gt_label=torch.tensor([0]), cls_score=torch.tensor([0.25, 0.75]), cls_label=torch.tensor([1]))
    everything |= dict(gt_sem_seg=mask, seg_mask=mask)
    targets = dict(cls='gt_label', seg='gt_sem_seg')
    sample = TaskSample(metainfo=dict(image_id='image 0', img_path=None, targets=targets))
    for name in known:
        setattr(sample, name, everything[name])
    logged = Logged()
    runner = SimpleNamespace(iter=7, visualizer=logged, val_dataloader=SimpleNamespace(dataset=Images(1)))

    hook = PredictionPictures(interval=2)
    for _ in range(3):
        hook.before_val_epoch(runner)
        hook.after_val_iter(runner, 0, outputs=[sample])

    assert [(name, step) for name, _, step in logged.images] == [('predictions/image 0', 7)]  # at the second of three
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, outputs=[TaskSample(metainfo=dict(image_id='image 0', img_path=None))])
    picture, blank = (picture for _, picture, _ in logged.images)
    assert picture.shape[1] == blank.shape[1]
    assert bool(known) == bool((picture != blank).any() if picture.shape == blank.shape else 1)


class Logged:
    """Stands in for a visualizer."""

    def __init__(self):
        self.images = []

    def add_image(self, name, image, step):
        self.images.append((name, image, step))


def test_a_process_keeps_no_log_or_figure_of_the_runs_before_the_last_two(half_folder, data_root, tmp_path):
    kept = []
    for number in range(3):
        cfg = load_config(half_folder.config, str(tmp_path / str(number)), str(data_root))
        evaluate_checkpoint(cfg, half_folder.weights)
        kept.append([weakref.ref(kind.get_current_instance()) for kind in (MessageHub, MMLogger, Visualizer)])
    gc.collect()
    assert [[reference() is None for reference in run] for run in kept] == [[True] * 3, [False] * 3, [False] * 3]
