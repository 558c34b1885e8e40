"""Prediction from Python, on a small network from random weights."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from io import BytesIO

import cv2
import numpy as np
import pytest
import torch
from narrow import SLIM
from PIL import Image

from mmskin import FailedImage, LesionInferencer
from mmskin.config import load_config
from mmskin.datasets.isic2017 import index_images
from mmskin.datasets.tables import CLASSES
from mmskin.errors import Mistake
from mmskin.inference.image_sources import find_images
from mmskin.models.weights import load_weights
from mmskin.packaging.publish import publish_weights
from mmskin.registry import DATASETS, MODELS

FOLDER = 'ISIC-2017_Validation_Data'
HOOK = 'mmskin.engine.runner'
NAMES_CLASSES = f"""
from mmengine.config import read_base
from mmskin.datasets.isic2017 import ISIC2017Dataset
from {HOOK} import ChannelsLast

with read_base():
    from mmskin.configs.fpm.r18_synthetic import *

test_dataloader.dataset.type = ISIC2017Dataset
custom_hooks = [dict(type=ChannelsLast)]
"""


@pytest.fixture(scope='module')
def inferencer(half_folder):
    return LesionInferencer(half_folder.config.parent, device='cpu', batch_size=4)


@pytest.fixture(scope='module')
def photos(data_root):
    return sorted(index_images(data_root / FOLDER).values())


@pytest.fixture(scope='module')
def samples_of_the_test(half_folder, data_root):
    """What the network says of the validation images when the config's own loader reads them, one at a time."""
    cfg = load_config(half_folder.config, data_root=str(data_root))
    cfg.test_dataloader.dataset.split = 'val'
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    network = MODELS.build(cfg.model).eval()
    load_weights(network, half_folder.weights)
    with torch.inference_mode():
        return [network.test_step({key: [value] for key, value in dataset[i].items()})[0] for i in range(len(dataset))]


@pytest.fixture
def image():
    """Noise, so that any two pixels differ."""
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


def kernels(network):
    return [weights for weights in network.parameters() if weights.ndim == 4]


def test_a_folder_gives_what_a_test_does(inferencer, data_root, samples_of_the_test):
    predictions = inferencer(data_root / FOLDER)
    assert [prediction.image_id for prediction in predictions] == [sample.image_id for sample in samples_of_the_test]
    for prediction, sample in zip(predictions, samples_of_the_test, strict=True):
        assert list(prediction.probabilities.values()) == pytest.approx(sample.cls_score.tolist(), abs=1e-5)
        assert prediction.label == CLASSES[int(sample.cls_label)]
        assert (prediction.mask == sample.seg_mask.data[0].numpy()).mean() > 0.999
    assert any(prediction.mask.any() for prediction in predictions)


def test_one_image_gives_one_prediction(inferencer, photos):
    prediction = inferencer(str(photos[0]))
    assert (prediction.image_id, prediction.path) == (photos[0].stem, str(photos[0]))
    assert list(prediction.probabilities) == list(CLASSES)
    assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert prediction.mask.dtype == bool
    assert prediction.mask.shape == prediction.size == (48, 64)
    assert len(inferencer([photos[0]])) == 1


def test_all_kinds_of_one_image_agree(inferencer, image):
    file = BytesIO()
    Image.fromarray(image).save(file, 'BMP')
    for same in (file.getvalue(), Image.fromarray(image), image.astype(np.uint16) * 257):
        assert inferencer(same).probabilities == inferencer(image).probabilities


def test_the_mask_is_that_of_the_upright_image(inferencer, image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees
    Image.fromarray(image).save(tmp_path / 'phone.png', exif=exif)
    turned, upright = inferencer(tmp_path / 'phone.png'), inferencer(np.rot90(image, -1).copy())
    assert turned.size == turned.mask.shape == (120, 90)
    assert (turned.mask == upright.mask).all()
    assert turned.probabilities == upright.probabilities


def test_a_bad_image_does_not_cost_the_others(inferencer, photos, tmp_path):
    (tmp_path / 'bad.jpg').write_text('junk')
    inputs = [photos[0], tmp_path / 'bad.jpg', tmp_path / 'gone.jpg', photos[1], np.zeros((2, 2, 2)), photos[2]]
    found = list(inferencer.iterate(inputs))
    assert [isinstance(item, FailedImage) for item in found] == [False, True, True, False, True, False]
    assert [item.image_id for item in found if not isinstance(item, FailedImage)] == [path.stem for path in photos[:3]]
    assert 'bad.jpg: not an image' in str(found[1].error)
    assert found[1].path == str(tmp_path / 'bad.jpg')
    with pytest.raises(ValueError, match='bad.jpg: not an image'):
        inferencer(inputs)
    with pytest.raises(FileNotFoundError, match='gone.jpg: no such file'):
        inferencer(tmp_path / 'gone.jpg')


@pytest.mark.parametrize(
    ('name', 'fault'),
    [('x' * 300, 'is too long'), ('a/' * 3000 + 'b', 'File name too long'), ('\ud800', 'that no file is named with')],
    ids=['name', 'path', 'half a character'],
)
def test_a_path_that_no_disk_takes_does_not_cost_the_others(inferencer, photos, name, fault):
    failed, predicted = inferencer.iterate([f'{name}.jpg', photos[0]])
    assert isinstance(failed, FailedImage) and fault in str(failed.error)
    assert predicted.image_id == photos[0].stem


def test_no_images_are_no_batch(inferencer):
    assert inferencer([]) == []
    with pytest.raises(Mistake, match='no images'):
        inferencer.inputs([])


def test_an_answer_that_is_no_number_is_a_failed_image(inferencer, photos):
    def spoil(head, inputs, logits):
        logits[1] = torch.nan

    handle = inferencer.network.tasks['cls'].head.register_forward_hook(spoil)
    try:
        found = list(inferencer.iterate(photos[:3]))
        with pytest.raises(ValueError, match='the answer of the network is not finite'):
            inferencer(photos[:3])
    finally:
        handle.remove()
    assert [isinstance(item, FailedImage) for item in found] == [False, True, False]
    assert str(found[1].error).startswith(f'{photos[1].stem}: the answer of the network is not finite (cls_score is')


def test_only_a_batch_is_read_ahead(inferencer, image):
    read = []
    items = inferencer.iterate(read.append(number) or image for number in range(20))
    next(items)
    assert len(read) == inferencer.batch_size + 1


def test_large_images_make_small_batches(inferencer, image, monkeypatch):
    monkeypatch.setattr('mmskin.inference.inferencer.MAX_PIXELS', 2.5 * image[..., 0].size)
    read = []
    items = inferencer.iterate(read.append(number) or image for number in range(20))
    next(items)
    assert len(read) == 3
    assert len(list(items)) == 19


def test_the_batch_size_changes_nothing(half_folder, inferencer, data_root):
    single = LesionInferencer(half_folder.config.parent, device='cpu', batch_size=1)
    for one, other in zip(single(data_root / FOLDER), inferencer(data_root / FOLDER), strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)
        assert one.gates['layer3.1'] == pytest.approx(other.gates['layer3.1'], abs=1e-5)


def test_gate_rates_are_the_means_of_the_networks_gates(inferencer, photos):
    prediction = inferencer(photos[0])
    data = inferencer.network.data_preprocessor({key: [value] for key, value in read(inferencer, photos[0]).items()})
    rates = inferencer.network.gates(data['inputs'])
    assert prediction.gates.keys() == rates.keys()
    for site, routes in rates.items():
        assert prediction.gates[site] == pytest.approx({name: rate.mean().item() for name, rate in routes.items()})


def test_an_interrupted_prediction_does_not_cost_the_next(inferencer, photos, monkeypatch):
    expected = inferencer(photos[0])

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(inferencer.network.tasks['seg'], 'predict', interrupted)  # after the gates
    with pytest.raises(KeyboardInterrupt):
        inferencer(photos[:2])
    monkeypatch.undo()
    assert inferencer(photos[0]).gates == expected.gates


def read(inferencer, path):
    (batch,) = inferencer._batches(find_images(path))
    return batch[0]


def test_probability_map_on_request(inferencer, photos):
    assert inferencer(photos[0]).lesion_probability is None
    prediction = inferencer(photos[0], lesion_probability=True)
    assert prediction.lesion_probability.shape == prediction.mask.shape
    assert ((prediction.lesion_probability > 0.5) == prediction.mask).all()


def test_json_takes_it(inferencer, photos):
    prediction = inferencer(photos[0])
    found = json.loads(json.dumps(prediction.to_dict()))
    assert found['image_id'] == photos[0].stem
    assert (found['height'], found['width']) == prediction.size
    assert found['measurements']['area'] == prediction.mask.sum()
    assert found['holes'] == prediction.holes
    for line, whole in zip(found['contours'], prediction.contours, strict=True):
        assert len(line) <= len(whole)
        away = [abs(cv2.pointPolygonTest(np.array(line, np.float32), point, True)) for point in whole]
        assert len(line) < 3 or max(away) <= 0.5
    assert 'contours' not in prediction.to_dict(contours=False)


def test_views_are_averaged(half_folder, inferencer, image):
    averaged = LesionInferencer(half_folder.config.parent, device='cpu', tta=True)
    one, other = averaged(image), averaged(image[:, ::-1].copy())  # the flips of either are those of both
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert one.probabilities != pytest.approx(inferencer(image).probabilities, abs=1e-4)
    assert one.gates['layer3.1'] == pytest.approx(other.gates['layer3.1'], abs=1e-4)
    assert not inferencer.tta


def test_masks_are_finished_by_switch(half_folder, photos):
    post = ['FillHoles', {'type': 'Dilate', 'radius': 0.05}]
    plain, wider = (LesionInferencer(half_folder.config.parent, device='cpu', post=post) for post in ([], post))
    for one in (plain, wider):  # half of each image is lesion, or there would be nothing to finish
        head = one.network.tasks['seg'].head
        head.register_forward_hook(
            lambda head, feats, logits: logits - logits.flatten(1).median(1)[0].view(-1, 1, 1, 1)
        )
    assert [type(step).__name__ for step in wider.network.tasks['seg'].post] == ['FillHoles', 'Dilate']
    for one, other in zip(plain(photos), wider(photos), strict=True):
        assert 0.3 < one.mask.mean() < 0.7
        assert not (one.mask & ~other.mask).any()
        assert other.mask.sum() > one.mask.sum()


@pytest.fixture
def single_task(small_config, tmp_path):
    """A config with one of the demo's tasks, and a checkpoint for it."""

    def write(task):
        cfg = deepcopy(small_config)
        cfg.model.passing = None
        for other in {'cls', 'seg'} - {task}:
            cfg.model.tasks.pop(other)
            cfg.model.backbone.branches.pop(other)
        cfg.dump(tmp_path / f'{task}.py')
        torch.save(MODELS.build(cfg.model).state_dict(), tmp_path / f'{task}.pth')
        return tmp_path / f'{task}.py', tmp_path / f'{task}.pth'

    return write


def test_diagnosis_alone(single_task, image):
    prediction = LesionInferencer(*single_task('cls'), device='cpu')(image)
    assert prediction.label in CLASSES
    assert (prediction.mask, prediction.contours, prediction.measurements, prediction.gates) == (None, None, None, {})
    json.dumps(prediction.to_dict())
    with pytest.raises(ValueError, match='outlines nothing'):
        LesionInferencer(*single_task('cls'), post=['FillHoles'])


def test_outline_alone(single_task, image):
    prediction = LesionInferencer(*single_task('seg'), device='cpu')(image)
    assert prediction.mask.shape == (90, 120)
    assert (prediction.label, prediction.probabilities) == (None, None)
    json.dumps(prediction.to_dict())


def test_a_config_and_a_checkpoint(small_config, checkpoint, inferencer, image, tmp_path):
    small_config.dump(tmp_path / 'small.py')
    plain = LesionInferencer(tmp_path / 'small.py', checkpoint, device='cpu')(image)
    assert plain.probabilities == pytest.approx(inferencer(image).probabilities, abs=0.02)  # whose weights are halved
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    assert LesionInferencer(tmp_path / 'small.py', tmp_path, device='cpu')(image).probabilities == plain.probabilities


def test_weights_that_training_starts_from_are_not_looked_up(small_config, checkpoint, tmp_path):
    cfg = deepcopy(small_config)
    cfg.model.backbone.chain.weights = 'http://127.0.0.1:9/nowhere.pth'
    cfg.dump(tmp_path / 'small.py')
    LesionInferencer(tmp_path / 'small.py', checkpoint, device='cpu')


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(model='nowhere'), FileNotFoundError, 'nowhere: no such folder'),
        (dict(model='nowhere.py'), ValueError, 'nowhere.py: a config has no weights; name a checkpoint'),
        (dict(checkpoint='a.pth'), ValueError, 'a.pth: name the config'),
        (dict(model='nowhere.py', checkpoint='a.pth'), FileNotFoundError, 'nowhere.py: no such config'),
        (dict(batch_size=0), ValueError, 'batch_size=0'),
        (dict(batch_size=2.5), ValueError, r'batch_size=2.5\): give int'),
        (dict(tta='False'), ValueError, r"tta='False'\): give bool"),
        (dict(tta=dict(zooms=(1.0,))), ValueError, 'tta='),
        (dict(post='FillHoles'), ValueError, "post='FillHoles'"),
        (dict(model=[]), ValueError, r'model=\[\]: name one'),
        (dict(model='nowhere.py', checkpoint=[]), ValueError, r'checkpoint=\[\]: name one'),
        (dict(device=0), ValueError, 'device=0: not available here'),
        (dict(device=2.5), ValueError, r'device=2.5\): give str'),
        (dict(device='cuda:99'), ValueError, r'device=cuda:99: not available here; available: cpu'),
        (dict(device='gpu'), ValueError, r'device=gpu: not available here; available: cpu'),
    ],
)
def test_what_is_missing_is_said(arguments, error, message):
    with pytest.raises(error, match=message):
        LesionInferencer(**arguments)


def test_a_pipeline_that_loads_otherwise_is_refused(small_config, checkpoint, tmp_path):
    cfg = deepcopy(small_config)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadMask')
    cfg.dump(tmp_path / 'small.py')
    with pytest.raises(ValueError, match=r'small\.py begins with LoadMask, not with LoadImage'):
        LesionInferencer(tmp_path / 'small.py', checkpoint)


@pytest.mark.parametrize('classes', ['abc', ['a', 'b', 'b']])
def test_names_of_classes_are_a_list_with_each_once(small_config, checkpoint, tmp_path, classes):
    cfg = deepcopy(small_config)
    cfg.test_dataloader.dataset.metainfo = dict(classes=classes)
    cfg.dump(tmp_path / 'small.py')
    with pytest.raises(ValueError, match='metainfo: classes=.*; give a list of names, each once'):
        LesionInferencer(tmp_path / 'small.py', checkpoint)


def test_a_pipeline_that_packs_nothing_is_refused(small_config, checkpoint, tmp_path):
    cfg = deepcopy(small_config)
    cfg.test_dataloader.dataset.pipeline.pop()
    cfg.dump(tmp_path / 'small.py')
    with pytest.raises(ValueError, match="last step has to be 'PackTaskSample'"):
        LesionInferencer(tmp_path / 'small.py', checkpoint)(np.zeros((9, 9, 3), np.uint8))


def test_a_config_that_tests_nothing_is_refused(small_config, checkpoint, tmp_path):
    cfg = deepcopy(small_config)
    cfg.pop('test_dataloader')
    cfg.dump(tmp_path / 'small.py')
    with pytest.raises(ValueError, match=r'small\.py: has no test_dataloader'):
        LesionInferencer(tmp_path / 'small.py', checkpoint)


def test_a_config_may_name_classes(small_config, checkpoint, image, tmp_path):
    slim = '\n'.join(f'{option} = {value}' for option, value in SLIM.items())
    (tmp_path / 'classes.py').write_text(NAMES_CLASSES + slim)
    cfg = load_config(tmp_path / 'classes.py')
    published = publish_weights(cfg, checkpoint, tmp_path / 'model')
    assert [hook['type'] for hook in load_config(published.config).custom_hooks] == [f'{HOOK}.ChannelsLast']
    for files in [(tmp_path / 'classes.py', checkpoint), (published.config, published.weights)]:
        inferencer = LesionInferencer(*files, device='cpu')
        assert [*inferencer(image).probabilities] == [*CLASSES]
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in kernels(inferencer.network))


def test_importing_the_name_costs_nothing():
    code = "import sys, mmskin; assert not {'torch', 'mmengine', 'cv2'} & {*sys.modules}"
    subprocess.run([sys.executable, '-c', code], check=True)


@pytest.mark.slow
def test_a_large_image_takes_little_memory(half_folder, tmp_path):
    """48 Mpx, whose pixels alone are 144 MB, in a process of its own: the peak is compared to that of a small image."""
    for name, size in (('small', (64, 48)), ('large', (8000, 6000))):
        Image.radial_gradient('L').resize(size).convert('RGB').save(tmp_path / f'{name}.jpg', quality=90)
    code = f"""
import resource
from mmskin import LesionInferencer
inferencer = LesionInferencer({str(half_folder.config.parent)!r}, device='cpu')
peaks = []
for name in ('small', 'large'):
    assert inferencer({str(tmp_path)!r} + f'/{{name}}.jpg').mask.size in (64 * 48, 48_000_000)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0])
"""
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    output = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, env=env)
    assert output.returncode == 0, output.stderr
    assert float(output.stdout) < 700  # MB
