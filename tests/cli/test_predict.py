"""``mmskin predict`` as a user calls it: its files, its messages and its exit status."""

import contextlib
import csv
import errno
import json
import os
import re
import shutil
import sys
import time
from itertools import chain
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from PIL import Image

from mmskin import LesionInferencer
from mmskin.cli import main
from mmskin.errors import Mistake
from mmskin.files import read_csv, whole_file, write_whole
from mmskin.inference.prediction import PredictionFiles
from mmskin.masks import measure_lesion

HEADER = 'image_id,melanoma,nevus,seborrheic_keratosis,label,note,area,area_fraction,perimeter,'

SIZES = {'a': 200 * 150, 'b': 60 * 80, 'phone': 50 * 90}  # pixels


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Three images of different sizes, one of them turned by 90 degrees, and files that are not photos."""
    folder = tmp_path_factory.mktemp('photos')
    random = np.random.default_rng(0)
    for name, height, width in (('b.png', 60, 80), ('a.jpg', 200, 150), ('phone.png', 50, 90)):
        pixels = cv2.resize(random.integers(0, 255, (5, 5, 3), np.uint8), (width, height))
        exif = Image.Exif()
        exif[0x0112] = 6 if name == 'phone.png' else 1
        Image.fromarray(pixels).save(folder / name, exif=exif)
    Image.fromarray(pixels).save(folder / 'a_superpixels.png')
    (folder / 'notes.txt').write_text('not a photo')
    return folder


@pytest.fixture
def predict(model, tmp_path):
    """Call it with the small model; gives the exit status and the folder of results."""

    def predict(*arguments):
        out = tmp_path / 'out'
        options = ['--out-dir', str(out), '--model', model, '--device', 'cpu']
        return main(['predict', *map(str, arguments), *options]), out

    return predict


def rows(out):
    with (out / 'predictions.csv').open() as file:
        return list(csv.DictReader(file))


def test_table_and_masks(predict, photos, model, capsys):
    status, out = predict(photos)
    assert status == 0
    assert (out / 'predictions.csv').read_text().startswith(HEADER)
    found = rows(out)
    assert [row['image_id'] for row in found] == ['a', 'b', 'phone']
    assert {path.name for path in out.iterdir()} == {'predictions.csv', 'masks'}
    for row, prediction in zip(found, LesionInferencer(model, device='cpu')(photos), strict=True):
        for name, probability in prediction.probabilities.items():
            assert float(row[name]) == pytest.approx(probability, abs=1e-5)
        assert row['label'] == prediction.label
        with Image.open(out / 'masks' / f'{row["image_id"]}_segmentation.png') as mask:
            assert mask.mode == 'L'
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
            assert (np.asarray(mask) == 255 * prediction.mask).all()
    with Image.open(out / 'masks' / 'phone_segmentation.png') as mask:
        assert mask.size == (50, 90)
    for row in found:
        assert float(row['area_fraction']) == pytest.approx(float(row['area']) / SIZES[row['image_id']], rel=1e-5)
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r'a      [a-z ]+ 0\.\d\d  lesion \d+\.\d % of the image', said[0])
    assert said[-2].startswith('3 of 3 images predicted: ')
    assert said[-1] == f'results: {out / "predictions.csv"}'


def test_a_bad_file_is_reported_and_the_rest_go_on(predict, photos, tmp_path, capsys):
    (tmp_path / 'bad.jpg').write_text('junk')
    status, out = predict(tmp_path / 'bad.jpg', tmp_path / 'gone.jpg', photos)
    assert status == 1
    assert [row['image_id'] for row in rows(out)] == ['a', 'b', 'phone']
    output = capsys.readouterr()
    assert f'skipped: {tmp_path / "bad.jpg"}: not an image that can be read' in output.err
    assert f'skipped: {tmp_path / "gone.jpg"}: no such file' in output.err
    assert '3 of 5 images predicted' in output.out


def test_names_that_make_trouble_do_not_stop_the_others(predict, photos, tmp_path, capsys):
    """One that is not UTF-8 text, as old archives have them, and one that leaves no room for a suffix."""
    old, long = tmp_path / os.fsdecode(b'\xe4.jpg'), tmp_path / f'{"x" * 245}.jpg'
    longer = tmp_path / f'{"x" * 300}.jpg'  # than a disk takes
    paths = [tmp_path / 'two\nlines.jpg', tmp_path / 'c:\\x.jpg']
    for path in (old, long, *paths):
        shutil.copy(photos / 'a.jpg', path)
    status, out = predict(longer, long, *paths, old, photos / 'b.png', '--json', tmp_path / 'lines', '--overlays')
    assert status == 1
    assert [row['image_id'] for row in rows(out)] == [r'\udce4', 'b']
    assert len([*(out / 'masks').iterdir()]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert [re.sub('.*/', '', line) for line in errors[-4:]] == [
        f"{'x' * 300}.jpg: the image id '{'x' * 40}...' is too long for the names of its results, which have 238 bytes "
        'for it; files are named after it, so give another',
        f"{'x' * 245}.jpg: the image id '{'x' * 40}...' is too long for the names of its results, which have 238 bytes "
        'for it; files are named after it, so give another',
        "two\\nlines.jpg: the image id 'two\\nlines' has a control character in it; files are named after it, so give "
        'another',
        "c:\\x.jpg: the image id 'c:\\\\x' is a path; files are named after it, so give another",
    ]


def test_sizes_in_mm_and_coco(predict, photos, model, tmp_path, capsys):
    shutil.copy(photos / 'a.jpg', tmp_path / os.fsdecode(b'\xe4.jpg'))
    status, out = predict(
        photos,
        tmp_path / os.fsdecode(b'\xe4.jpg'),
        '--mm-per-pixel',
        '0.5',
        '--coco',
        tmp_path / 'coco.json',
    )
    assert status == 0
    predictions = LesionInferencer(model, device='cpu')(photos)
    by_id = {row['image_id']: row for row in rows(out)}
    found = json.loads((tmp_path / 'coco.json').read_text())
    assert len(found['images']) == len(by_id) == 4
    images = {Path(one['file_name']).stem: one for one in found['images']}
    names = [one['name'] for one in found['categories']]
    for prediction in predictions:
        row, measured = by_id[prediction.image_id], prediction.measurements
        assert (row['area_mm2'] == '') == (measured is None)
        image = images[prediction.image_id]
        assert (image['height'], image['width']) == prediction.size
        mine = [one for one in found['annotations'] if one['image_id'] == image['id']]
        assert len(mine) == (measured is not None)
        for one in mine:
            assert float(row['area_mm2']) == pytest.approx(measured.area / 4, rel=1e-5)
            assert float(row['max_feret_diameter_mm']) == pytest.approx(measured.max_feret_diameter / 2, rel=1e-5)
            assert (one['area'], tuple(one['bbox'])) == (measured.area, measured.bounding_box)
            assert names[one['category_id'] - 1] == prediction.label
            assert one['score'] == pytest.approx(prediction.probabilities[prediction.label], abs=1e-5)
    assert any(prediction.measurements for prediction in predictions), 'nothing was compared'
    assert ' mm long' in capsys.readouterr().out


def test_no_spreadsheet_runs_the_name_of_an_image(predict, photos, tmp_path):
    for name in ('=1+1', '@SUM(A1)', '-1'):
        shutil.copy(photos / 'a.jpg', tmp_path / f'{name}.jpg')
    status, out = predict(*sorted(tmp_path.glob('*.jpg')))
    assert status == 0
    assert [row['image_id'] for row in rows(out)] == ['-1', "'=1+1", "'@SUM(A1)"]
    assert [row['image_id'] for row in read_csv(out / 'predictions.csv')] == ['-1', '=1+1', '@SUM(A1)']


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no /dev/full to stand for a full disk')
def test_a_full_disk_is_said(predict, photos, capsys, monkeypatch):
    with contextlib.suppress(OSError), open('/dev/full', 'w') as full:  # what is left is written on closing
        monkeypatch.setattr(sys, 'stdout', full)
        assert predict(photos, '--json', '-')[0] == 2
        assert capsys.readouterr().err.endswith('mmskin predict: error: No space left on device\n')


def test_the_file_that_a_full_disk_does_not_take_is_named(predict, photos, capsys, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # of a handle the system knows no name

    monkeypatch.setattr(os, 'fsync', full)
    status, out = predict(photos / 'a.jpg')
    assert status == 2
    assert f'error: {out / "masks/a_segmentation.png"}: No space left on device\n' in capsys.readouterr().err


def test_more_on_request(predict, photos, tmp_path):
    switches = [
        '--overlays',
        '--probabilities',
        '--json',
        tmp_path / 'lines',
        '--contours',
        '--fill-holes',
        '--largest-component',
        '--tta',
    ]
    status, out = predict(photos / 'a.jpg', *switches)
    assert status == 0
    (line,) = (tmp_path / 'lines').read_text().splitlines()
    found = json.loads(line)
    mask = cv2.imread(str(out / 'masks/a_segmentation.png'), cv2.IMREAD_UNCHANGED)
    measured = measure_lesion(mask)
    assert (found['measurements'] is None) == (measured is None)
    if measured:
        assert found['measurements']['area'] == measured.area
        assert measured.num_components == len(found['contours']) == 1
    assert found['gates']['layer3.1'].keys() == {'cls2seg', 'seg2cls'}
    probability = cv2.imread(str(out / 'probabilities/a.png'), cv2.IMREAD_UNCHANGED)
    assert probability.shape == (200, 150)
    assert cv2.imread(str(out / 'overlays/a.jpg')).shape[1] == 150


def test_json_for_a_pipe(model, photos, capsys):
    """Objects alone on the standard output; answers go to the other, and nothing is written."""
    assert main(['predict', str(photos), '--json', '-', '--model', model, '--device', 'cpu']) == 0
    output = capsys.readouterr()
    found = [json.loads(line) for line in output.out.splitlines()]
    assert [one['image_id'] for one in found] == ['a', 'b', 'phone']
    assert 'contours' not in found[0]
    assert '3 of 3 images predicted' in output.err


def test_a_terminal_shows_rate_and_time_left_over_all_images(predict, tmp_path, capsys, monkeypatch):
    """Not of the last batch, whose answers come at once: that was hundreds of images a second."""
    monkeypatch.setenv('FORCE_COLOR', '1')  # a terminal, to rich
    noise = np.random.default_rng(0).integers(0, 255, (4000, 4000, 3), np.uint8)
    (tmp_path / 'large').mkdir()
    for name in 'abc':  # no machine decodes one in less than some 50 ms
        cv2.imwrite(str(tmp_path / f'large/{name}.jpg'), noise)
    began = time.monotonic()
    assert predict(tmp_path / 'large')[0] == 0
    shown = re.sub(r'\x1b\[[\d;?]*\w', '', capsys.readouterr().err)
    rate = float(re.search(r'3/3 ([\d.]+) images/s, 0:00:00 left', shown)[1])
    assert 3 / (time.monotonic() - began) - 0.1 < rate < 60


def test_two_of_one_name_and_folders_below(predict, photos, tmp_path):
    for name in ('day1', 'day2/left'):
        (tmp_path / 'clinic' / name).mkdir(parents=True)
        shutil.copy(photos / 'a.jpg', tmp_path / 'clinic' / name / '7.jpg')
    status, out = predict(tmp_path / 'clinic', '--recursive', '--overlays')
    assert status == 0
    assert [row['image_id'] for row in rows(out)] == ['day1/7', 'day2/left/7']
    assert (out / 'masks/day2/left/7_segmentation.png').is_file()
    assert (out / 'overlays/day1/7.jpg').is_file()


def test_nothing_of_an_earlier_run_is_left(predict, photos, tmp_path):
    _, out = predict(photos, '--overlays')
    (out / 'masks/mine.png').write_text('of a user')
    assert predict(photos / 'b.png')[0] == 0
    assert [row['image_id'] for row in rows(out)] == ['b']
    assert {path.name for path in (out / 'masks').iterdir()} == {'b_segmentation.png', 'mine.png'}
    assert [*(out / 'overlays').iterdir()] == []


def test_nothing_of_a_killed_run_is_left(predict, photos, monkeypatch):
    """It had written the mask of an image, and no row as yet: by a later table that mask would pass for its own."""

    def killed(path, content):
        with whole_file(path) as file:
            if path.parent.name == 'overlays':
                os._exit(9)
            file.write(content)

    if not (child := os.fork()):
        monkeypatch.setattr('mmskin.inference.prediction.write_whole', killed)
        predict(photos / 'a.jpg', '--overlays')
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    _, out = predict(photos / 'b.png')
    assert [row['image_id'] for row in rows(out)] == ['b']
    assert {path.name for path in out.rglob('*.*')} == {'predictions.csv', 'b_segmentation.png'}


def test_a_picture_that_cannot_be_written_leaves_neither_the_others_nor_a_row(predict, photos, monkeypatch):
    def full(path, content):
        if path.parent.name == 'overlays':
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_whole(path, content)

    monkeypatch.setattr('mmskin.inference.prediction.write_whole', full)
    status, out = predict(photos / 'a.jpg', '--overlays')
    assert status == 2
    assert [path.name for path in out.rglob('*.*')] == ['predictions.csv'] and rows(out) == []


def test_a_second_prediction_into_a_folder_is_refused(predict, photos, tmp_path, capsys):
    """It would remove the table of the first, whose later images would be in none."""
    with PredictionFiles(tmp_path / 'out', []):
        assert predict(photos / 'b.png')[0] == 2
    assert 'another prediction works in this folder' in capsys.readouterr().err
    assert predict(photos / 'b.png')[0] == 0


@pytest.mark.parametrize(
    'wrong', ['--json nowhere/lines', '--json .', '--coco .', '--coco /dev/null', 'masks', 'network']
)
def test_earlier_results_stay_where_something_else_is_refused(predict, photos, tmp_path, capsys, monkeypatch, wrong):
    """In the folder, the lines and the outlines: an error that comes before the first image costs none of them."""
    options = {name: tmp_path / name for name in ('--json', '--coco')}
    assert predict(photos / 'b.png', *chain(*options.items()))[0] == 0
    results = [path for path in tmp_path.rglob('*') if path.is_file()]
    before = {path: path.read_bytes() for path in results}
    assert len(before) == 4
    if wrong == 'masks':
        (tmp_path / 'out/predictions.csv').unlink()
        before.pop(tmp_path / 'out/predictions.csv')
    elif wrong == 'network':  # on a cluster that does not answer, or for want of memory
        monkeypatch.setattr(LesionInferencer, '_batches', Mock(side_effect=Mistake('no network answers')))
    else:
        option, path = wrong.split()
        options[option] = path
    assert predict(photos / 'a.jpg', *chain(*options.items()))[0] == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize('option', ['--json', '--coco'])
def test_a_disk_that_is_full_is_said_of_the_file(model, photos, tmp_path, capsys, monkeypatch, option):
    resource = pytest.importorskip('resource', reason='a limit to what is written')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filled(self, *arguments, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        yield from iterate(self, *arguments, **options)

    iterate = LesionInferencer.iterate
    monkeypatch.setattr(LesionInferencer, 'iterate', filled)
    path = tmp_path / 'file'
    try:
        assert main(['predict', str(photos / 'b.png'), option, str(path), '--model', model, '--device', 'cpu']) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f'error: {path}: File too large' in capsys.readouterr().err


def test_lines_go_to_a_device_too(predict, photos):
    assert predict(photos / 'b.png', '--json', os.devnull)[0] == 0


def test_masks_that_no_prediction_wrote_are_not_replaced(predict, photos, tmp_path, capsys):
    """An expert's, next to the images, have the same names."""
    truth = tmp_path / 'out/masks/b_segmentation.png'
    write_whole(truth, b"an expert's")
    assert predict(photos / 'b.png')[0] == 2
    assert f'{truth.parent}: has files that no prediction wrote' in capsys.readouterr().err
    assert truth.read_bytes() == b"an expert's"


def test_another_table_is_not_replaced(predict, photos, tmp_path, capsys):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/predictions.csv').write_text('date,price\n2026,7\n')
    assert predict(photos / 'b.png')[0] == 2
    assert 'is not a table of predictions' in capsys.readouterr().err
    assert (tmp_path / 'out/predictions.csv').read_text() == 'date,price\n2026,7\n'


def test_a_damaged_table_and_a_link_in_its_place(predict, photos, tmp_path, capsys):
    table, other = tmp_path / 'out/predictions.csv', tmp_path / 'other.csv'
    table.parent.mkdir()
    table.write_text(f'image_id,a\n{"x" * 200_000},1\n')
    assert predict(photos / 'b.png')[0] == 2
    assert 'predictions.csv: damaged (field larger than field limit' in capsys.readouterr().err
    other.write_text('image_id\nb\n')
    table.unlink()
    table.symlink_to(other)
    assert predict(photos / 'b.png')[0] == 0
    assert other.read_text() == 'image_id\nb\n' and len(rows(table.parent)) == 1


def test_an_interruption_keeps_what_is_done(predict, photos, tmp_path, monkeypatch):
    def interrupted(self, *arguments, **options):
        yield next(iterate(self, *arguments, **options))
        raise KeyboardInterrupt

    iterate = LesionInferencer.iterate
    monkeypatch.setattr(LesionInferencer, 'iterate', interrupted)
    assert predict(photos)[0] == 130
    assert [row['image_id'] for row in rows(tmp_path / 'out')] == ['a']
    assert (tmp_path / 'out/masks/a_segmentation.png').is_file()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'nowhere: no such file or folder'),
        (['{photos}/*.tif'], 'no image there'),
        (['{photos}', '{photos}/a.jpg'], 'would both be image a'),
        (['{photos}', '--model', 'nowhere'], 'nowhere: no such folder, and no model'),
        (['{photos}', '--batch-size', '0'], 'batch_size=0'),
        (['{photos}', '--contours'], '--contours go into --json'),
        (['{photos}', '--mm-per-pixel', '0'], '--mm-per-pixel 0.0: give a number from 0.000001'),
        (['{photos}', '--coco', '{photos}/a.jpg/coco.json'], 'a.jpg'),
        (['{photos}', '--coco', '.'], '.: Is a directory'),
        (['{photos}', '--json', ''], 'an argument after --json is empty; is a variable of the shell not set?'),
        (['{photos}', '--json='], 'nothing comes after --json=; is a variable of the shell not set?'),
        ([], 'no images; name files, folders or patterns, or try --samples'),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(arguments, message, photos, model, tmp_path, capsys):
    arguments = [argument.format(photos=photos) for argument in arguments]
    defaults = [] if '--model' in arguments else ['--model', model]
    assert main(['predict', *arguments, '--out-dir', str(tmp_path / 'out'), *defaults]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('option', ['--json', '--coco'])
def test_results_replace_neither_an_image_nor_each_other(predict, photos, tmp_path, capsys, option):
    photo = Path(shutil.copy(photos / 'a.jpg', tmp_path / 'a.jpg'))
    before = photo.read_bytes()
    for path in (photo, tmp_path / 'out' / 'predictions.csv'):
        assert predict(photo, option, path)[0] == 2
        assert f'{option}: {path} is ' in capsys.readouterr().err
    assert predict(photo, '--json', tmp_path / 'x.json', '--coco', tmp_path / 'x.json')[0] == 2
    assert photo.read_bytes() == before
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['overlays/a.jpg', 'probabilities/a.png', 'masks/day1/a.png', 'explanations/a.png'])
def test_no_image_is_replaced_or_removed_where_results_go(predict, photos, tmp_path, capsys, name):
    photo = tmp_path / 'out' / name
    photo.parent.mkdir(parents=True)
    Image.open(photos / 'a.jpg').save(photo)
    (tmp_path / 'out/predictions.csv').write_text('image_id\na\n')  # by which a.jpg would be an earlier result
    before = photo.read_bytes()
    (tmp_path / 'link').symlink_to(tmp_path / 'out')
    for source in (photo, tmp_path / 'link' / name):
        assert predict(source, '--overlays', '--probabilities')[0] == 2
        assert f'{source} is in {tmp_path / "out" / name.split("/")[0]}, whose files are replaced' in (
            capsys.readouterr().err
        )
    assert photo.read_bytes() == before


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--age', '40', '--input', 'age=50'], 'age: given twice; keep one'),
        (['--mm-per-pixel', '1e308'], '--mm-per-pixel 1e+308: give a number from 0.000001 to 1000, such as 0.02'),
    ],
)
def test_options_that_make_no_sense_are_named(predict, photos, capsys, options, message):
    assert predict(photos / 'a.jpg', *options)[0] == 2
    assert message in capsys.readouterr().err


def test_a_device_that_holds_no_numbers_is_not_here(model, photos, capsys):
    assert main(['predict', str(photos / 'a.jpg'), '--model', model, '--device', 'meta']) == 2
    assert 'device=meta: not available here; available: cpu' in capsys.readouterr().err
