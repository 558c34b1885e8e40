"""Exported networks compute what torch does, say what they are, and predict in its place."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import forked
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.model import ImgDataPreprocessor

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.errors import Mistake
from mmskin.inference import exported
from mmskin.inference.exported import Session, build_task, exported_config, open_session, seal
from mmskin.inference.inferencer import LesionInferencer
from mmskin.models.weights import read_metadata
from mmskin.packaging.export import TOLERANCE, check_against, describe_input, export_model
from mmskin.registry import MODELS, TRANSFORMS

from ..conftest import SIZE

pytestmark = pytest.mark.slow
CLASSES = ['melanoma', 'nevus', 'seborrheic_keratosis']


@pytest.fixture(scope='module')
def openvino_file(half_folder, tmp_path_factory):
    """An OpenVINO file, with the ONNX file that it was made from beside it."""
    path = tmp_path_factory.mktemp('exported') / 'small.xml'
    assert export_model(load_config(half_folder.config), half_folder.weights, path) < TOLERANCE
    return path


@pytest.fixture(scope='module', params=['.onnx', '.xml'])
def exported_file(request, openvino_file):
    return openvino_file.with_suffix(request.param)


@pytest.fixture(scope='module')
def onnx_file(openvino_file):
    return openvino_file.with_suffix('.onnx')


@pytest.fixture(scope='module')
def images(data_root):
    return sorted((data_root / 'ISIC-2017_Validation_Data').glob('*.jpg'))[:5]


def test_runtimes_report_to_nobody(openvino_file, tmp_path):
    code = """
import sys
from mmskin.inference.exported import import_openvino, open_session
for path in sys.argv[1:]:
    open_session(path)
import_openvino().convert_model(sys.argv[1])
"""
    environment = {name: value for name, value in os.environ.items() if 'TELEMETRY' not in name and name != 'CI'}
    environment |= dict(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / 'cache'))
    files = [str(openvino_file.with_suffix(suffix)) for suffix in ('.onnx', '.xml')]
    subprocess.run([sys.executable, '-c', code, *files], check=True, env=environment)
    assert not [*tmp_path.rglob('*')], 'a reporter keeps a number of this user'


def test_any_batch_gives_what_torch_gives(exported_file, half_folder):
    network = LesionInferencer(half_folder.config.parent).network
    session = open_session(exported_file)
    inputs = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = network(inputs)
    for count in (1, 2, 5):
        found = session.run(inputs[:count].numpy())
        expected = logits['cls'][:count].softmax(dim=1).numpy()
        np.testing.assert_allclose(found['cls_probabilities'], expected, atol=TOLERANCE)
        assert found['seg_probabilities'].shape == (count, 1, SIZE, SIZE)


def test_predictions_are_those_of_the_model_folder(exported_file, half_folder, images):
    expected = LesionInferencer(half_folder.config.parent)(images, lesion_probability=True)
    found = LesionInferencer(exported_file)(images, lesion_probability=True)
    for one, other in zip(found, expected, strict=True):
        assert (one.label, one.size, one.image_id) == (other.label, other.size, other.image_id)
        assert one.probabilities == pytest.approx(other.probabilities, abs=TOLERANCE)
        np.testing.assert_allclose(one.lesion_probability, other.lesion_probability, atol=TOLERANCE)
        assert (one.mask != other.mask).mean() < 0.001


def test_threads_get_the_answers_of_one(exported_file, images):
    inferencer = LesionInferencer(exported_file)
    alone = inferencer(images)
    with ThreadPoolExecutor(4) as pool:
        for found, expected in zip(pool.map(inferencer, images * 4), alone * 4, strict=True):
            assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
            assert (found.mask == expected.mask).all()


def test_views_and_post_processing_go_with_an_exported_network(onnx_file, half_folder, images):
    options = dict(tta=True, post=['FillHoles', 'LargestComponent'])
    expected = LesionInferencer(half_folder.config.parent, **options)(images[0])
    found = LesionInferencer(onnx_file, **options)(images[0])
    assert found.probabilities == pytest.approx(expected.probabilities, abs=TOLERANCE)
    assert (found.mask != expected.mask).mean() < 0.001


@pytest.fixture(scope='module')
def folds(small_config, tmp_path_factory):
    """The config in a file, and a suite's folder of two folds with weights of their own."""
    folder = tmp_path_factory.mktemp('method')
    config = folder / 'small.py'
    config.write_text(small_config.pretty_text)
    for fold in range(2):
        torch.manual_seed(fold)
        work = folder / f'fold{fold}' / 'train'
        work.mkdir(parents=True)
        weights = MODELS.build(small_config.model).state_dict()
        torch.save({'state_dict': {name: x * (1 + fold) for name, x in weights.items()}}, work / 'last.pth')
        (work / 'last_checkpoint').write_text('last.pth')
    return config, folder


def test_an_ensemble_is_one_file(folds, images, tmp_path, capsys):
    config, folder = folds
    out = tmp_path / 'both.onnx'
    assert main(['export', str(config), str(folder), '--out', str(out)]) == 0
    assert 'largest difference from torch' in capsys.readouterr().out
    found = LesionInferencer(out, tta=False)(images[:2], lesion_probability=True)
    expected = LesionInferencer(config, folder, tta=False)(images[:2], lesion_probability=True)
    alone = LesionInferencer(config, folder / 'fold0/train', tta=False)(images[:2])
    for one, other, single in zip(found, expected, alone, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=TOLERANCE)
        assert one.probabilities != pytest.approx(single.probabilities, abs=10 * TOLERANCE)
        np.testing.assert_allclose(one.lesion_probability, other.lesion_probability, atol=TOLERANCE)
    hashes = open_session(out).description['weights_sha256']
    assert len({*hashes}) == 2


def test_models_by_name_become_one_file(half_folder, images, tmp_path):
    folder = str(half_folder.config.parent)
    assert main(['export', '--model', folder, folder, '--out', str(tmp_path / 'twice.onnx')]) == 0
    twice, once = LesionInferencer(tmp_path / 'twice.onnx')(images[0]), LesionInferencer(folder)(images[0])
    assert twice.probabilities == pytest.approx(once.probabilities, abs=TOLERANCE)


def test_networks_that_do_not_go_together_are_refused(folds, half_folder, onnx_file, tmp_path, capsys):
    config, folder = folds
    cfg = load_config(config)
    head = dict(type='ClsHead', in_channels=48, num_classes=2)
    measures = dict(type='Regression', head=head, losses=dict(l1=dict(type='torch.nn.L1Loss')))
    other = {**cfg.model, 'tasks': {**cfg.model.tasks, 'cls': measures}}
    torch.save(MODELS.build(other).state_dict(), tmp_path / 'other.pth')
    cfg.model = dict(type='Ensemble', members=[cfg.model, other])
    with pytest.raises(Mistake, match='the task cls differs between the networks'):
        export_model(cfg, [folder / 'fold0/train/last.pth', tmp_path / 'other.pth'], tmp_path / 'x.onnx')
    for given, message in (
        ([str(half_folder.config.parent), '--model', 'a'], 'name all models behind --model'),
        (['--model', str(onnx_file), str(onnx_file)], 'holds its weights'),
        ([str(onnx_file)], 'holds its weights'),
    ):
        assert main(['export', *given, '--out', str(tmp_path / 'x.onnx')]) == 2
        assert message in capsys.readouterr().err


UNTRACEABLE = """
from mmskin.models.passing.feature_passing import GatedFeaturePassing

class Looks(GatedFeaturePassing):
    def forward(self, *features):
        out = super().forward(*features)
        assert all(map.max() < 1e9 for map in out.values())
        return out
"""


def test_a_plugin_that_cannot_be_traced_is_refused_in_one_line(half_folder, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sys, 'path', [*sys.path])  # to which the config's folder is added
    (tmp_path / 'untraceable.py').write_text(UNTRACEABLE)
    config, out = tmp_path / 'odd.py', tmp_path / 'out/x.onnx'
    text = half_folder.config.read_text()
    config.write_text(f'{text}\nmodel["passing"]["layer3.1"]["type"] = "untraceable.Looks"\n')
    assert main(['export', str(config), str(half_folder.weights), '--out', str(out)]) == 2
    said = capfd.readouterr().err.splitlines()[-1]
    assert 'odd.py: this network cannot be exported (' in said
    assert 'untraceable.py, line 7: GuardOnDataDependentSymNode: Could not guard' in said and len(said) < 1000
    assert not any(out.parent.iterdir())


def test_the_description_is_enough_without_mmskin(onnx_file, half_folder, images):
    """The image is prepared by what the file says, in plain OpenCV and numpy."""
    session = onnxruntime.InferenceSession(onnx_file)
    description = json.loads(session.get_modelmeta().custom_metadata_map['mmskin'])
    prepared, size = description['input'], description['input']['size']
    assert prepared['channel_order'] == 'RGB'
    image = cv2.cvtColor(cv2.imread(str(images[0])), cv2.COLOR_BGR2RGB)
    shrinks = min(image.shape[:2]) > size
    small = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    normal = (small.astype(np.float32) - np.float32(prepared['mean'])) / np.float32(prepared['std'])
    probabilities, lesion = session.run(None, {prepared['name']: normal.transpose(2, 0, 1)[None]})
    mask = cv2.resize(lesion[0, 0], image.shape[1::-1]) > description['outputs']['seg_probabilities']['threshold']
    expected = LesionInferencer(half_folder.config.parent)(images[0])
    classes = description['outputs']['cls_probabilities']['classes']
    assert dict(zip(classes, probabilities[0].tolist(), strict=True)) == pytest.approx(expected.probabilities, abs=1e-4)
    assert (mask != expected.mask).mean() < 0.002


def test_the_description_says_which_weights_these_are(exported_file, half_folder):
    description = open_session(exported_file).description
    assert description['weights_sha256'] == read_metadata(half_folder.weights)['sha256']
    assert description['model'] == half_folder.config.parent.name
    assert description['input'] | {'mean': [127.0] * 3, 'std': [64.0] * 3, 'size': SIZE} == description['input']
    assert description['outputs']['cls_probabilities']['classes'] == CLASSES


def test_a_network_let_go_in_another_thread_leaves_the_process_alive(openvino_file):
    code = f"""
import signal, subprocess, threading
from mmskin.inference.exported import open_session
sessions = [open_session({str(openvino_file)!r})]
thread = threading.Thread(target=sessions.clear)
thread.start()
thread.join()
signal.signal(signal.SIGCHLD, lambda *_: None)  # as a loader with workers does
subprocess.run(['true'], check=True)
"""
    assert forked.run('-c', code).returncode == 0


def test_a_difference_from_torch_is_an_error(openvino_file):
    session = open_session(openvino_file)

    class Another(torch.nn.Module):
        inputs = {}

        def forward(self, images, values):
            return {name: torch.from_numpy(found) + 0.001 for name, found in session.run(images.numpy()).items()}

    with pytest.raises(ValueError, match=r'small\.xml: differs from torch by 1\.0e-03'):
        check_against(Another(), session, SIZE)


@pytest.mark.parametrize('wrong', [torch.nan, torch.inf])
def test_numbers_that_are_none_do_not_pass_for_equal(wrong, openvino_file):
    session = open_session(openvino_file)

    class Spoiled(torch.nn.Module):
        inputs = {}

        def forward(self, images, values):
            return {name: torch.from_numpy(found) + wrong for name, found in session.run(images.numpy()).items()}

    with pytest.raises(ValueError, match=r'the network gives \w+_probabilities that are not finite'):
        check_against(Spoiled(), session, SIZE)
    spoiled = session._replace(run=lambda *given: {key: one + wrong for key, one in session.run(*given).items()})

    class Same(Spoiled):
        def forward(self, images, values):
            return {name: torch.from_numpy(found) for name, found in session.run(images.numpy()).items()}

    with pytest.raises(ValueError, match=r'the exported file gives \w+_probabilities that are not finite'):
        check_against(Same(), spoiled, SIZE)


def test_missing_damaged_and_foreign_files(onnx_file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.onnx: no such file; write one by "mmskin export"'):
        LesionInferencer(tmp_path / 'none.onnx')
    for suffix in ('.onnx', '.xml'):
        (tmp_path / f'cut{suffix}').write_bytes(onnx_file.read_bytes()[:1000])
        with pytest.raises(ValueError, match=f'cut{suffix}: damaged'):
            open_session(tmp_path / f'cut{suffix}')
    model = onnx.load(onnx_file)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / 'plain.onnx')
    with pytest.raises(ValueError, match=r'plain\.onnx: does not say how its images are prepared'):
        open_session(tmp_path / 'plain.onnx')


@pytest.mark.parametrize('suffix', ['.onnx', '.xml', '.bin'])
def test_a_flipped_bit_is_not_predicted_with(onnx_file, openvino_file, tmp_path, suffix):
    for file in (onnx_file, openvino_file, openvino_file.with_suffix('.bin')):
        shutil.copy(file, tmp_path / f'net{file.suffix}')
    content = bytearray((tmp_path / f'net{suffix}').read_bytes())
    name = tmp_path / ('net.onnx' if suffix == '.onnx' else 'net.xml')
    for place in (len(content) // 3, content.find(b'file_sha256'), content.find(b'file_sha256') + 40):
        damaged = content.copy()
        damaged[place] ^= 1
        (tmp_path / f'net{suffix}').write_bytes(damaged)
        with pytest.raises(Mistake, match=f'{name.name}: (damaged|has no checksum).*export it again'):
            open_session(name)
    (tmp_path / f'net{suffix}').write_bytes(content)
    open_session(name)


def test_weights_beside_an_exported_network(onnx_file):
    with pytest.raises(ValueError, match=r'small\.onnx holds its weights; leave epoch_1\.pth out'):
        LesionInferencer(onnx_file, 'epoch_1.pth')


@pytest.mark.parametrize('output', [dict(type='os.system'), dict(type='Segmentation', post=[dict(type='os.system')])])
def test_the_file_has_no_say_in_what_is_called(output):
    with pytest.raises(ValueError, match=r'asks for .*os\.system.*, which mmskin does not write'):
        build_task(output)


def test_views_come_with_the_file(monkeypatch, onnx_file):
    """Of test-time augmentation, and nothing else that a config could hold."""
    description = open_session(onnx_file).description
    description['test_time_augmentation'] = dict(default=True, zooms=[1.0, 1.2], module=dict(type='os.system'))
    session = Session(onnx_file, description, lambda images: {})
    monkeypatch.setattr(exported, 'open_session', lambda path: session)
    cfg = exported_config(onnx_file)
    assert (cfg.tta, cfg.tta_model) == (True, dict(zooms=[1.0, 1.2]))


def test_a_missing_library_is_named(monkeypatch, onnx_file):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ModuleNotFoundError, match=r"onnxruntime is not installed: pip install '\.\[onnx\]'"):
        open_session(onnx_file)


@pytest.mark.parametrize(
    'change',
    [
        {'test_dataloader.dataset.pipeline.0.size': None},
        {'test_dataloader.dataset.pipeline': [dict(type='LoadImage', size=8), dict(type='PackTaskSample')]},
        {'model.data_preprocessor.bgr_to_rgb': True},
    ],
)
def test_what_cannot_be_described_is_refused(small_config, change):
    cfg = Config(small_config.to_dict(), cfg_text='x', filename='odd.py')
    cfg.merge_from_dict(change)
    with pytest.raises(ValueError, match=r'odd\.py: only .* can be exported'):
        describe_input(cfg)


def test_types_may_be_classes(small_config):
    cfg = Config(small_config.to_dict(), cfg_text='x', filename='classes.py')
    expected = describe_input(cfg)
    for step in cfg.test_dataloader.dataset.pipeline:
        step.type = TRANSFORMS.get(step.type)
    cfg.model.data_preprocessor.type = ImgDataPreprocessor
    assert describe_input(cfg) == expected


@pytest.mark.parametrize(
    ('change', 'wrong'),
    [
        (lambda description: description['input'].pop('size'), r'\(no input\.size\)'),
        (lambda description: description.pop('input'), r'\(no input\.size, no input\.mean, no input\.std\)'),
        (lambda description: description.pop('test_time_augmentation'), r'\(no test_time_augmentation\.default\)'),
        (lambda description: description.pop('outputs'), r'\(no outputs\.<task>\.task, no outputs\.<task>\.type\)'),
        (lambda description: description['outputs']['cls_probabilities'].pop('type'), r'cls_probabilities\.type\)'),
        (lambda description: description.update(input=None), 'NoneType'),
        (lambda description: description.update(format_version=2), r'\(format 2, not 1\)'),
        (lambda description: description['input'].update(size=float('inf')), 'infinity'),
        (lambda description: description['input'].update(size=[48]), 'int'),
        (lambda description: description['input'].update(std=[1, 0, 1]), r'std \[1, 0, 1\]'),
        (lambda description: description['input'].update(mean=[float('nan')] * 3), r'mean \[nan'),
        (lambda description: description.update(outputs=[1]), 'list'),
        (lambda description: description['outputs']['cls_probabilities'].update(classes=['a'] * 3), r"classes \['a'"),
    ],
)
def test_a_description_that_lacks_something_is_refused(onnx_file, tmp_path, change, wrong):
    model = onnx.load(onnx_file)
    description = json.loads(model.metadata_props[0].value)
    change(description)
    model.metadata_props[0].value = json.dumps(description)
    onnx.save(model, tmp_path / 'foreign.onnx')
    seal(tmp_path / 'foreign.onnx')
    with pytest.raises(
        ValueError, match=r'foreign\.onnx: its description is not what "mmskin export" writes.*' + wrong
    ):
        LesionInferencer(tmp_path / 'foreign.onnx')


def test_outputs_that_are_not_there_are_named(onnx_file, tmp_path, images):
    model = onnx.load(onnx_file)
    description = json.loads(model.metadata_props[0].value)
    description['outputs']['nothing'] = description['outputs'].pop('cls_probabilities')
    model.metadata_props[0].value = json.dumps(description)
    onnx.save(model, tmp_path / 'foreign.onnx')
    seal(tmp_path / 'foreign.onnx')
    with pytest.raises(ValueError, match=r'foreign\.onnx: runs otherwise than it says'):
        LesionInferencer(tmp_path / 'foreign.onnx')(images[0])


def test_a_fault_of_a_users_task_is_not_laid_to_the_file(onnx_file, images, monkeypatch):
    inferencer = LesionInferencer(onnx_file)

    def write(*_):
        raise AttributeError('mine')

    monkeypatch.setattr(type(inferencer.network.tasks['cls']), 'write', write)
    with pytest.raises(AttributeError, match='^mine$'):
        inferencer(images[0])


@pytest.mark.parametrize('text', ['[]', '[' * 100_000, 'made by hand'])
def test_a_description_that_is_none_is_refused(onnx_file, tmp_path, text):
    model = onnx.load(onnx_file)
    model.metadata_props[0].value = text
    onnx.save(model, tmp_path / 'foreign.onnx')
    with pytest.raises(ValueError, match=r'foreign\.onnx: its description is not what "mmskin export" writes'):
        LesionInferencer(tmp_path / 'foreign.onnx')


def test_a_file_that_fails_its_check_does_not_come_to_its_place(half_folder, tmp_path, monkeypatch):
    (tmp_path / 'small.onnx').write_text('the last that passed')
    monkeypatch.setattr('mmskin.packaging.export.TOLERANCE', -1.0)
    with pytest.raises(ValueError, match=rf'{tmp_path}/small\.onnx: differs from torch'):
        export_model(load_config(half_folder.config), half_folder.weights, tmp_path / 'small.onnx')
    assert [path.name for path in tmp_path.iterdir()] == ['small.onnx']
    assert (tmp_path / 'small.onnx').read_text() == 'the last that passed'


def test_a_disk_that_is_full_for_openvino_is_not_laid_to_the_network(
    half_folder, onnx_file, tmp_path, monkeypatch, capsys
):
    def full(*arguments, **options):
        raise RuntimeError('basic_ios::clear: iostream error')

    traced = SimpleNamespace(model_proto=onnx.load(onnx_file))
    monkeypatch.setattr(torch.onnx, 'export', lambda *arguments, **options: traced)
    monkeypatch.setattr(exported.import_openvino(), 'save_model', full)
    assert main(['export', str(half_folder.config.parent), '--out', str(tmp_path / 'x.xml')]) == 2
    assert 'error: x.xml: cannot be written (basic_ios::clear: iostream error)' in capsys.readouterr().err


def test_post_processing_may_be_named_or_configured(small_config):
    cfg = Config(small_config.to_dict(), cfg_text='x', filename='small.py')
    cfg.merge_from_dict({'model.tasks.seg.post': ['FillHoles', dict(type='Dilate', radius=0.02)]})
    task = MODELS.build(cfg.model).tasks['seg']
    expected = [dict(type='FillHoles'), dict(type='Dilate', radius=0.02)]
    assert task.describe()['post'] == expected


def test_other_kinds_of_file_are_refused(small_config, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r'x\.pb: export writes \.onnx, or \.xml for OpenVINO'):
        export_model(small_config, checkpoint, tmp_path / 'x.pb')
    (tmp_path / 'x.onnx').mkdir()
    with pytest.raises(ValueError, match=r'x\.onnx: is a folder; name a file'):
        export_model(small_config, checkpoint, tmp_path / 'x.onnx')


def test_an_exported_network_is_not_explained(onnx_file, images, tmp_path, capsys):
    arguments = ['predict', str(images[0]), '--model', str(onnx_file), '--out-dir', str(tmp_path / 'out'), '--explain']
    assert main(arguments) == 2
    assert 'small.onnx: an exported network cannot be explained' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
