"""What a network is given with the image, in predictions, explanations, the page and exported files."""

import copy
import json
from threading import Lock

import numpy as np
import pytest
import torch

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.explain.explanation import explain
from mmskin.files import read_csv
from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.packaging.export import TOLERANCE, export_model
from mmskin.packaging.publish import publish_weights
from mmskin.registry import MODELS
from mmskin.web.limits import Limits
from mmskin.web.page import build_page, predict_uploads

INPUTS = dict(
    age=dict(type='Numeric', minimum=0, maximum=120, edges=(40, 60)),
    sex=dict(type='Categorical', values=('female', 'male')),
)


@pytest.fixture(scope='module')
def folder(small_config, tmp_path_factory):
    """A model folder whose diagnosis depends on age and sex, by maps and by logits."""
    cfg = copy.deepcopy(small_config)
    cfg.model.inputs = INPUTS
    cfg.model.tasks.cls.fusion = dict(type='PriorFusion')
    cfg.model.tasks.seg.fusion = dict(type='FiLMFusion')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    told = {'age': torch.tensor([30.0, 50, 70]), 'sex': torch.tensor([0.0, 1, 1])}
    model.tasks['cls'].fusion.fit(told, torch.tensor([0, 1, 2]))
    model.tasks['seg'].fusion.layers[-1].weight.data.normal_()
    path = tmp_path_factory.mktemp('told')
    torch.save({'state_dict': model.state_dict(), 'meta': {'epoch': 1}}, path / 'epoch_1.pth')
    found = publish_weights(cfg, path / 'epoch_1.pth', path / 'model')
    found.card.write_text('')
    return found


@pytest.fixture(scope='module')
def inferencer(folder):
    return LesionInferencer(folder.config.parent, device='cpu')


@pytest.fixture(scope='module')
def images(data_root):
    return sorted((data_root / 'ISIC-2017_Validation_Data').glob('*.jpg'))[:3]


def test_values_for_all_for_each_by_id_and_from_a_table(inferencer, images, tmp_path):
    """All ways say the same; what is absent, unknown or None is as if nothing had been said."""
    each = [dict(age=30, sex='Female'), {}, dict(age=70)]
    expected = [inferencer([image], True, one)[0] for image, one in zip(images, each, strict=True)]
    plain = inferencer(images, True)
    assert expected[1].probabilities == pytest.approx(plain[1].probabilities, abs=1e-6)
    assert expected[0].probabilities != pytest.approx(plain[0].probabilities, abs=0.01)
    assert abs(expected[0].lesion_probability - plain[0].lesion_probability).max() > 1e-4
    assert expected[0].to_dict()['inputs'] == each[0]
    assert 'inputs' not in plain[0].to_dict()
    table = tmp_path / 'table.csv'
    table.write_text(f'image_id,age_approximate,sex\n{images[0].stem},30,female\n{images[2].stem},70,unknown\n')
    by_id = {images[0].stem: each[0], images[2].stem: each[2]}
    unknown = [each[0], dict(age='unknown', sex=None), dict(age='70', sex='')]
    for metadata in (each, by_id, str(table), table, unknown):
        for found, one in zip(inferencer(images, False, metadata), expected, strict=True):
            assert found.probabilities == pytest.approx(one.probabilities, abs=1e-6)
            assert (found.mask == one.mask).all()
    assert [one.inputs for one in inferencer(images, metadata=dict(age=30))] == [{'age': 30}] * 3
    for number in (np.int64(30), np.float32(30), torch.tensor(30)):  # as pandas has them, which json does not take
        assert json.loads(json.dumps(inferencer(images[0], metadata=dict(age=number)).inputs)) == {'age': 30}


def test_views_of_one_image_are_told_the_same(folder, images):
    inferencer = LesionInferencer(folder.config.parent, device='cpu', tta=True)
    assert inferencer(images[0], metadata=dict(age=30)).probabilities != inferencer(images[0]).probabilities


@pytest.mark.parametrize(
    ('metadata', 'message'),
    [
        (dict(age=130), r'\.jpg: age is 130; give a number from 0 to 120, or unknown'),
        (dict(sex='f'), r"\.jpg: sex is 'f'; give one of female, male, or unknown"),
        (dict(site='back'), r'site: this network takes age and sex with the image; leave site out'),
        (dict(age=True), r'\.jpg: age is True; give a number from 0 to 120, or unknown'),
        ([{}], r'metadata has 1 entries for 3 images'),
        (5, r'metadata=5; give a dict such as dict\(age=55\), a list of them, or a table'),
        ([{}, 55, None], r'\.jpg: its metadata are 55; give a dict, such as dict\(age=55\)'),
        (
            {'a.jpg': dict(age=55)},
            r'metadata has none of the 3 images, such as SYN_1000000; check .* ids have no suffix',
        ),
        ('nowhere.csv', r'nowhere\.csv is missing'),
    ],
)
def test_metadata_without_sense_are_refused(inferencer, images, metadata, message):
    with pytest.raises(ValueError, match=message):
        inferencer(images, metadata=metadata)


def test_by_id_what_is_unknown_is_said_and_two_images_of_one_id_are_refused(inferencer, images, tmp_path, capsys):
    """A key with a suffix is no id: its image would be unknown, and nobody would know."""
    told = {images[0].stem: dict(age=30), images[1].name: dict(age=70), images[2].stem: None}
    assert [one.inputs for one in inferencer(images, metadata=told)] == [{'age': 30}, {}, {}]
    assert f'lacks 1 of 3 images, which are left unknown, such as {images[1].stem}\n' in capsys.readouterr().err
    other = tmp_path / images[0].name
    other.write_bytes(images[1].read_bytes())
    assert len(inferencer([images[0], images[0]], metadata=told)) == 2
    with pytest.raises(ValueError, match=f'{other} are both image {images[0].stem}, .* give a list'):
        inferencer([images[0], other], metadata=told)


def test_networks_of_images_alone_are_told_nothing(half_folder, images):
    inferencer = LesionInferencer(half_folder.config.parent, device='cpu')
    with pytest.raises(ValueError, match='age: this network takes nothing with the image'):
        inferencer(images[0], metadata=dict(age=55))


def test_explanations_are_of_the_told_answer(inferencer, images):
    source = ImageSource('a', images[0], inputs=dict(age=30, sex='male'))
    found = explain(inferencer, source)
    assert found.prediction.probabilities == inferencer(images[0], metadata=source.inputs).probabilities
    assert {json.dumps(one.inputs) for one in found.without.values()} == {json.dumps(source.inputs)}


@pytest.fixture
def predict(folder, images, tmp_path, capsys):
    def predict(*options):
        arguments = ['predict', *map(str, images), '--out-dir', str(tmp_path / 'out'), '--device', 'cpu']
        arguments += ['--json', str(tmp_path / 'lines')]
        status = main([*arguments, '--model', str(folder.config.parent), *map(str, options)])
        return status, capsys.readouterr().err

    return predict


def test_the_command_takes_a_table_and_options(predict, inferencer, images, tmp_path):
    table = tmp_path / 'table.csv'
    table.write_text(f'isic_id,sex,age_approx\n{images[1].stem},female,30\nelse,male,50\n')
    status, errors = predict('--metadata', table, '--age', '70', '--input', 'sex=male')
    assert status == 0
    assert f'lacks 2 of 3 images, which are left unknown, such as {images[0].stem}\n' in errors
    told = [dict(age=70, sex='male'), dict(age=30, sex='female'), dict(age=70, sex='male')]
    expected = inferencer(images, metadata=told)
    for row, one in zip(read_csv(tmp_path / 'out' / 'predictions.csv'), expected, strict=True):
        assert float(row['melanoma']) == pytest.approx(one.probabilities['melanoma'], abs=1e-5)
    lines = (tmp_path / 'lines').read_text().splitlines()
    assert [json.loads(line)['inputs']['age'] for line in lines] == ['70', '30', '70']


def test_a_table_without_a_column_for_an_input_says_so(predict, images, tmp_path):
    (tmp_path / 'table.csv').write_text(f'image_id,age,gender\n{images[0].stem},30,male\n')
    assert 'table.csv: has no column sex, which counts as unknown' in predict('--metadata', tmp_path / 'table.csv')[1]


@pytest.mark.parametrize(
    ('text', 'options', 'message'),
    [
        (None, ['--age', '300'], "options: age is '300'; give a number from 0 to 120, or unknown"),
        (None, ['--input', 'site=back'], 'site: this network takes age and sex'),
        (None, ['--input', 'site'], '--input site: give a name and a value'),
        ('image_id,age\n{id},old\n', [], "table.csv, line 2: age is 'old'; give a number from 0 to 120, or unknown"),
        ('image_id,age\nelse,50\n', [], 'table.csv has none of the 3 images'),
        ('image_id,age\n', [], 'table.csv has none of the 3 images'),
        ('image_id,weight\n{id},50\n', [], 'table.csv has no column age or sex'),
        ('image_id,Age,sex\n{id},50,male\n', [], 'table.csv has a column Age, which is not read; name it age'),
    ],
)
def test_the_command_answers_mistakes_in_one_line(predict, images, tmp_path, text, options, message):
    if text:
        (tmp_path / 'table.csv').write_text(text.format(id=images[0].stem))
        options = [*options, '--metadata', str(tmp_path / 'table.csv')]
    status, errors = predict(*options)
    assert status == 2
    assert message in errors.splitlines()[-1]
    assert 'Traceback' not in errors
    assert not (tmp_path / 'out').exists()


def test_the_page_tells_the_network(inferencer, images, tmp_path):
    def html(**inputs):
        path = tmp_path / 'upload' / 'x'
        path.parent.mkdir()
        path.write_bytes(images[0].read_bytes())
        return predict_uploads(inferencer, Limits(), [('mole.jpg', path)], inputs)

    for inputs in (dict(age='30', sex='male'), dict(age='', sex='unknown')):
        for probability in inferencer(images[0], metadata=inputs).probabilities.values():
            assert f'<td>{probability:.2f}</td>' in html(**inputs)
    assert 'mole.jpg: age is &#39;old&#39;; give a number from 0 to 120' in html(age='old')


def test_the_page_asks_for_what_the_network_is_told(inferencer, half_folder):
    pytest.importorskip('gradio')

    def labels(inferencer):
        parts = build_page(inferencer, Limits(), 'small', Lock()).config['components']
        return [part['props'].get('label') or '' for part in parts if part['type'] in ('textbox', 'dropdown')]

    assert [label.split(',')[0] for label in labels(inferencer)] == ['age', 'sex']
    assert labels(LesionInferencer(half_folder.config.parent, device='cpu')) == []


@pytest.mark.slow
def test_exported_files_are_told_by_name(folder, inferencer, images, tmp_path):
    assert export_model(load_config(folder.config), folder.weights, tmp_path / 'told.xml') < TOLERANCE
    for name in ('told.onnx', 'told.xml'):
        exported = LesionInferencer(tmp_path / name)
        described = exported.network.session.description['inputs']
        assert (described['age']['missing'], described['sex']['values']) == ('NaN', ['female', 'male'])
        for metadata in (None, dict(age=30), [dict(age=70, sex='male'), {}, dict(sex='female')]):
            expected = inferencer(images, metadata=metadata)
            for found, one in zip(exported(images, metadata=metadata), expected, strict=True):
                assert found.probabilities == pytest.approx(one.probabilities, abs=TOLERANCE)
        with pytest.raises(ValueError, match='age is 130; give a number from 0 to 120'):
            exported(images, metadata=dict(age=130))
