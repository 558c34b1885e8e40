"""Which images a path, a pattern or a list means."""

import io
import os
import resource
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmskin.cli import main
from mmskin.errors import Mistake
from mmskin.files import SpooledDict
from mmskin.inference.image_sources import find_files, find_images, is_single

PIXELS = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for name in ('b.jpg', 'a.PNG', 'a_segmentation.png', 'b_superpixels.png', 'sub/c.tif'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(PIXELS).save(tmp_path / name)
    for name in ('notes.txt', '.hidden.jpg', 'scan.dcm'):
        (tmp_path / name).write_text('')
    (tmp_path / 'folder.jpg').mkdir()
    return tmp_path


def names(inputs):
    return [source.image_id for source in find_images(inputs)]


def test_a_folder_means_its_photos(folder):
    assert names(folder) == names(str(folder)) == ['a', 'b', 'scan']


def test_a_pattern_reaches_below(folder):
    assert names(f'{folder}/*.jpg') == ['b']
    assert names(f'{folder}/**/*.tif') == ['c']


def test_a_named_file_stands_for_itself(folder):
    assert names(folder / 'a_segmentation.png') == ['a_segmentation']
    assert names('nowhere.jpg') == ['nowhere']


def test_a_bracket_in_a_name_is_no_pattern(tmp_path):
    path = tmp_path / 'lesion[1].png'
    Image.fromarray(PIXELS).save(path)
    assert [source.path for source in find_images(path)] == [path]
    assert is_single(path)


@pytest.mark.parametrize('below', ['patient[1]', 'a*b/c?[x-z]', '[]'])
def test_a_pattern_below_a_folder_with_brackets(below, folder, tmp_path):
    place = tmp_path / 'new' / below
    for name in ('x1.png', 'x2.png', 'y1.png', 'z_Segmentation.png', 'sub[2]/x3.png'):
        (place / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(PIXELS).save(place / name)
    assert names(f'{place}/x*.png') == names(f'{place}/x[12].png') == ['x1', 'x2']
    assert sorted(names(f'{place}/**/x?.png')) == ['x1', 'x2', 'x3']
    assert names(f'{place}/sub[2]/*.png') == ['x3']
    assert names(place) == ['x1', 'x2', 'y1']
    assert not is_single(f'{place}/x*.png')
    assert is_single(f'{place}/typo.png') and names(f'{place}/typo.png') == ['typo']
    with pytest.raises(FileNotFoundError, match='no image there'):
        names(f'{place}/w*.png')


def test_a_list_of_anything_keeps_its_order(folder):
    mixed = [PIXELS, [str(folder), b'bytes'], (Image.fromarray(PIXELS),)]
    assert names(mixed) == ['image_0', 'a', 'b', 'scan', 'image_4', 'image_5']
    assert names(one for one in mixed) == names(mixed)


def test_one_image_or_several(folder):
    assert all(map(is_single, [folder / 'b.jpg', 'x.jpg', PIXELS, b'bytes', Image.fromarray(PIXELS)]))
    assert not any(map(is_single, [folder, f'{folder}/*.jpg', [PIXELS], ['x.jpg']]))


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=f'{tmp_path}: no image there'):
        names(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'\*\.jpg: no image there'):
        names(f'{tmp_path}/*.jpg')
    (tmp_path / 'below').mkdir()
    with pytest.raises(FileNotFoundError, match='--recursive looks into its folders'):
        names(tmp_path)


@pytest.mark.parametrize('content', [3, io.BytesIO(b'two\nlines'), torch.zeros(2, 2, 3), {'a.jpg': 1}], ids=type)
def test_no_image_at_all_is_a_type_error(content):
    """Least of all is it a list of images."""
    with pytest.raises(Mistake, match=f'{type(content).__name__} is not an image'):
        names([content])


def test_two_files_of_one_id_are_refused(folder):
    Image.fromarray(PIXELS).save(folder / 'b.png')
    with pytest.raises(ValueError, match=r'b\.jpg and .*b\.png would both be image b'):
        find_files([str(folder)])
    with pytest.raises(ValueError, match='would both be image a'):
        find_files([str(folder / 'a.PNG'), str(folder / 'a.PNG')])


@pytest.mark.parametrize(('one', 'other'), [('m', 'M'), ('\u00e9', 'e\u0301'), ('Straße', 'STRASSE')])
def test_ids_that_are_one_file_on_some_disks_are_refused(one, other, tmp_path):
    for name in (one, other):
        Image.fromarray(PIXELS).save(tmp_path / f'{name}.png')
    with pytest.raises(ValueError, match='in the results on a disk that ignores capitals; rename one'):
        find_files([str(tmp_path)])
    (tmp_path / 'day').mkdir()
    (tmp_path / f'{other}.png').rename(tmp_path / 'day' / f'{other}.png')
    found = find_files([str(tmp_path)], recursive=True)
    assert sorted(source.image_id for source in found) == sorted([one, f'day/{other}'])


def test_many_files_are_listed_on_the_disk(tmp_path):
    (tmp_path / 'folder/below').mkdir(parents=True)
    first = tmp_path / 'folder/00000.jpg'
    Image.fromarray(PIXELS).save(first)
    for number in range(1, 3000):
        os.link(first, tmp_path / f'folder/{number:05}.jpg')
    os.link(first, tmp_path / 'folder/below/x.jpg')
    find_files([str(tmp_path / 'folder/below')])  # what is imported or cached at first use
    tracemalloc.start()
    files = find_files([str(tmp_path / 'folder')], recursive=True)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < most < 3000 * 100  # a path and a string alone are more
    assert len(files) == 3001
    assert [one.image_id for one in files] == [*(f'{number:05}' for number in range(3000)), 'x']
    assert [one.image_id for one in files[7:9]] == ['00007', '00008'] and files[-1].image_id == 'x'
    assert [one.image_id for one in files[::1500]] == ['00000', '01500', 'x']
    with pytest.raises(IndexError):
        files[3001]


def test_only_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'x\.jpg, y\.jpg: no such file or folder'):
        find_files(['x.jpg', 'y.jpg'])
    Image.fromarray(PIXELS).save(tmp_path / 'z.png')
    assert [source.image_id for source in find_files(['x.jpg', str(tmp_path / 'z.png')])] == ['x', 'z']


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda folder: folder / 'gone.jpg', FileNotFoundError, 'gone.jpg: no such file'),
        (lambda folder: folder / f'{"x" * 300}.jpg', ValueError, 'x.jpg: File name too long'),
        (lambda folder: folder / 'notes.txt', ValueError, 'notes.txt: not an image'),
        (lambda folder: folder / 'scan.dcm', ValueError, 'scan.dcm: not an image'),
        (lambda folder: b'junk', ValueError, 'image_0: not an image'),
        (lambda folder: np.zeros((2, 2, 2)), ValueError, 'image_0: .*shape'),
    ],
)
def test_what_cannot_be_read_is_named(folder, make, error, message):
    (source,) = find_images(make(folder))
    with pytest.raises(error, match=message):
        source.read()


@pytest.mark.parametrize('target', ['loop.png', 'gone.png'])
@pytest.mark.parametrize('where', ['.', '*.png'])
def test_a_link_that_leads_nowhere_is_one_failed_image(target, where, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'whole.png')
    (tmp_path / 'loop.png').symlink_to(target)
    loop, whole = find_files([tmp_path / where])
    assert (loop.image_id, whole.image_id) == ('loop', 'whole')
    with pytest.raises(Mistake, match=f'^{loop.name}: '):
        loop.read()
    assert whole.read()[0].shape == PIXELS.shape


def test_a_path_is_a_path():
    (source,) = find_images('x/y.jpg')
    assert source.path == Path('x/y.jpg')


def test_a_full_disk_for_temporary_files_is_said_in_one_line(tmp_path, monkeypatch, capsys):
    for number in range(2):
        Image.fromarray(PIXELS).save(tmp_path / f'{number}.png')
    monkeypatch.setattr(tempfile, 'tempdir', None)
    names = SpooledDict()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(Mistake, match='no room for temporary files'):
            for number in range(10_000):
                names[str(number)] = 'x' * 1000
        assert main(['predict', str(tmp_path), '--coco', str(tmp_path / 'coco.json')]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (line,) = capsys.readouterr().err.splitlines()[1:]
    assert line.startswith('mmskin predict: error: ') and 'No usable temporary directory found' in line
