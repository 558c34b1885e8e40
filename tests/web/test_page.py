"""The answer as HTML, without a server or a browser."""

import base64
import csv
import io
import re
import sys
import zipfile

import cv2
import numpy as np
import pytest

from mmskin.inference.image_sources import ImageSource
from mmskin.inference.inferencer import LesionInferencer
from mmskin.inference.prediction import UNLIKE
from mmskin.web.answer import answer_html, look_at
from mmskin.web.limits import Limits
from mmskin.web.page import import_gradio, predict_uploads


def pictures(html, pattern):
    return [
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
        for data in re.findall(pattern + r'="data:image/\w+;base64,([^"]+)"', html)
    ]


@pytest.fixture(scope='module')
def html(inferencer, photo, tmp_path_factory):
    path = tmp_path_factory.mktemp('upload') / 'x'
    path.write_bytes(photo)
    return predict_uploads(inferencer, Limits(), [('mole.png', path)])


def test_the_mask_is_that_of_the_prediction(html, inferencer, photo):
    (mask,) = pictures(html, r'download="mole_segmentation.png" href')
    prediction = inferencer(photo)
    assert prediction.mask.any()
    np.testing.assert_array_equal(mask, np.uint8(255) * prediction.mask)
    (overlay,) = pictures(html, r'download="mole.jpg" href')
    assert overlay.shape == (*prediction.overlay(photo).size[::-1], 3)
    measured = prediction.measurements
    share = f'{100 * measured.area_fraction:.1f}\N{NO-BREAK SPACE}%'
    assert f'<td>{measured.area:,} pixels, {share} of the image</td>' in html
    assert f'<td>{measured.max_feret_diameter:,.1f} pixels</td>' in html


def test_all_results_in_one_archive_even_where_two_files_have_one_name(inferencer, photo, upload):
    html = predict_uploads(inferencer, Limits(), [upload('mole.png', photo), upload('mole.png', photo)])
    data = base64.b64decode(re.search(r'download="mmskin.zip" href="data:application/zip;base64,([^"]+)"', html)[1])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [f'{folder}/mole{end}' for end in ('', '_2') for folder in ('masks', 'overlays')]
        names = [name + ('_segmentation.png' if 'masks' in name else '.jpg') for name in names]
        assert archive.namelist() == ['predictions.csv', *names]
        rows = [*csv.DictReader(io.StringIO(archive.read('predictions.csv').decode()))]
        mask = cv2.imdecode(np.frombuffer(archive.read(names[0]), np.uint8), cv2.IMREAD_UNCHANGED)
    expected = inferencer(photo)
    assert [row['image_id'] for row in rows] == ['mole', 'mole_2']
    assert {row['label'] for row in rows} == {expected.label}
    assert float(rows[1]['area']) == (mask > 0).sum() == expected.measurements.area
    assert html.count('<td class="name">mole.png</td>') == 2


def test_results_of_names_that_differ_in_capitals_do_not_replace_each_other(inferencer, photo, upload):
    html = predict_uploads(inferencer, Limits(), [upload(name, photo) for name in ('a.png', 'A.png', 'a_2.png')])
    data = base64.b64decode(re.search(r'download="mmskin.zip" href="data:application/zip;base64,([^"]+)"', html)[1])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name.lower() for name in archive.namelist()]
        rows = [*csv.DictReader(io.StringIO(archive.read('predictions.csv').decode()))]
    assert len({*names}) == len(names) == 7
    assert [row['image_id'] for row in rows] == ['a', 'A_2', 'a_2_2']


def test_image_maps_outline_and_numbers(html, inferencer, photo):
    image, *maps = pictures(html, 'src')
    prediction = inferencer(photo)
    assert len(maps) == 1 and not prediction.gates  # the shipped network has no routes
    assert 'without what the diagnosis tells the outline' not in html
    assert f'{UNLIKE.capitalize()}. Do not rely on the diagnosis.' in html  # the photo is painted
    assert {one.shape for one in (image, *maps)} == {(160, 200, 3)}
    assert html.count('class="edge"') == len(prediction.contours)
    for probability in prediction.probabilities.values():
        assert f'<td>{probability:.2f}</td>' in html
    assert 'evidence for' in html
    assert 'class="overview"' not in html


def test_what_tasks_tell_each_other_is_in_words(half_folder, photo, tmp_path):
    path = tmp_path / 'x'
    path.write_bytes(photo)
    passing = LesionInferencer(half_folder.config.parent, device='cpu')
    html = predict_uploads(passing, Limits(), [('mole.png', path)])
    assert 'without what the diagnosis tells the outline' in html
    assert html.count('<td>the same answer</td>') == 2
    assert len(pictures(html, 'src')) == 2  # routes that move nothing have no maps


def test_bad_files_are_named_and_the_others_answered(inferencer, photo, upload):
    uploads = [upload('<b>.txt', b'text'), upload('mole.png', photo), upload('more.png', photo)]
    html = predict_uploads(inferencer, Limits(images=2), uploads)
    assert '&lt;b&gt;.txt: not an image that can be read' in html
    assert '<b>.txt' not in html
    assert 'more.png: not looked at; this page takes 2 images at a time' in html
    assert html.count('<section') == 1


def test_several_images_get_a_table(inferencer, photo):
    one = look_at(inferencer, ImageSource('{{7*7}}<i>', photo))
    html = answer_html(inferencer.classes, [one, 'bad.png: broken', one])
    assert html.count('<td class="name">{{7*7}}&lt;i&gt;</td>') == 2
    assert 'bad.png: broken' in html
    assert '<i>' not in html


@pytest.mark.parametrize('error', [RuntimeError, MemoryError])
def test_a_failure_of_one_image_does_not_cost_the_others(inferencer, photo, upload, monkeypatch, caplog, error):
    def fail_once(inferencer, source):
        if source.image_id == 'a':
            raise error('out of memory')
        return look_at(inferencer, source)

    monkeypatch.setattr('mmskin.web.page.look_at', fail_once)
    html = predict_uploads(inferencer, Limits(), [upload('a.png', photo), upload('b.png', photo)])
    assert 'a.png: no answer, since the computation failed' in html
    assert html.count('<section') == 1
    assert f'{error.__name__}: out of memory' in caplog.text
    assert 'a.png' not in caplog.text


def test_nothing_stays_on_the_disk_even_if_the_server_is_stopped(inferencer, photo, upload, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmskin.web.page.look_at', stop)
    uploads = [upload('a.png', photo), upload('b.txt', b'text')]
    with pytest.raises(KeyboardInterrupt):
        predict_uploads(inferencer, Limits(), uploads)
    assert [*(tmp_path / 'uploads').iterdir()] == []


def test_a_file_that_is_gone_tells_nothing_of_its_place(inferencer, tmp_path):
    html = predict_uploads(inferencer, Limits(), [('a.png', tmp_path / 'none' / 'a.png')])
    assert 'a.png: could not be read; drop it once more' in html
    assert str(tmp_path) not in html


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(ModuleNotFoundError, match=r"^gradio is not installed: pip install '\.\[serve\]'$"):
        import_gradio()
