"""A dozen images by their ids, from a server that answers as the ISIC archive does."""

import hashlib
import json

import cv2
import numpy as np
import pytest

from mmskin.cli import main
from mmskin.datasets.preparation.samples import SAMPLES, fetch_samples
from mmskin.errors import Mistake
from mmskin.files import read_csv

FIRST, SECOND, *_ = SAMPLES


@pytest.fixture
def archive(server):
    """The server with a description and a file for each image."""
    for number, image_id in enumerate(SAMPLES):
        image = np.full((6, 8, 3), number, np.uint8)
        server.files[f'full/{image_id}.jpg'] = cv2.imencode('.jpg', image)[1].tobytes()
        tell(server, image_id)
    return server


def tell(server, image_id, **changed):
    """Let the archive say this of an image, apart from what is changed."""
    file = {'url': f'{server.url}full/{image_id}.jpg', 'size': len(server.files[f'full/{image_id}.jpg'])}
    answer = {
        'isic_id': image_id,
        'public': True,
        'copyright_license': 'CC-0',
        'attribution': 'Memorial Sloan Kettering',
        'files': {'full': file | changed.pop('file', {}), 'thumbnail_256': file},
        'metadata': {'clinical': {'age_approx': 55, 'sex': 'male', 'diagnosis_1': 'Benign'}, 'acquisition': {}},
    }
    server.files[f'images/{image_id}'] = json.dumps(answer | changed).encode()


@pytest.fixture
def fetch(archive, tmp_path, hasty):
    return lambda: fetch_samples(tmp_path / 'out', f'{archive.url}images/', hasty)


def asked(server):
    return [path for method, path, _ in server.requests if method == 'GET']


def test_a_dozen_of_four_each(fetch, archive, tmp_path):
    there, faults = fetch()
    assert faults == []
    assert sorted(SAMPLES.values()) == ['melanoma'] * 4 + ['nevus'] * 4 + ['seborrheic_keratosis'] * 4
    for image_id, noted in there.items():
        content = archive.files[f'full/{image_id}.jpg']
        assert (tmp_path / 'out' / f'{image_id}.jpg').read_bytes() == content
        assert noted['sha256'] == hashlib.sha256(content).hexdigest()
    rows = read_csv(tmp_path / 'out' / 'samples.csv')
    assert [row['image_id'] for row in rows] == [*SAMPLES]
    assert {(row['age'], row['sex'], row['licence']) for row in rows} == {('55', 'male', 'CC-0')}
    assert len([*(tmp_path / 'out').iterdir()]) == 14


def test_a_second_run_asks_for_nothing(fetch, archive):
    first = fetch()
    archive.requests.clear()
    assert fetch() == first
    assert asked(archive) == []


def test_it_goes_on_after_a_fault_of_the_network(fetch, archive):
    archive.faults = ['ok', 'ok', 'status:503', 'break:30', 'ok', 'stall:20']
    assert fetch()[1] == []


def test_what_was_changed_is_fetched_again(fetch, archive, tmp_path):
    fetch()
    archive.requests.clear()
    (tmp_path / 'out' / f'{FIRST}.jpg').write_bytes(b'changed')
    fetch()
    assert asked(archive) == [f'/images/{FIRST}/', f'/full/{FIRST}.jpg']


@pytest.mark.parametrize(
    ('changed', 'message'),
    [
        (dict(copyright_license='CC-BY-NC'), f'{FIRST} is now under CC-BY-NC, not CC-0; it is left out'),
        (dict(file=dict(size=9999)), 'bytes arrived, but the archive states 9999'),
    ],
)
def test_an_image_that_is_left_out(changed, message, fetch, archive, tmp_path):
    """The others are there, and it is not."""
    tell(archive, FIRST, **changed)
    there, (fault,) = fetch()
    assert message in fault
    assert [*there] == [*SAMPLES][1:]
    assert not list((tmp_path / 'out').glob(f'{FIRST}*.jpg'))


def test_a_file_that_is_no_image(fetch, archive, tmp_path):
    archive.files[f'full/{FIRST}.jpg'] = b'<html>please log in</html>'
    tell(archive, FIRST)
    assert f'{FIRST}.jpg.part: not an image that can be read' in fetch()[1][0]


def test_another_file_than_before(fetch, archive, tmp_path):
    fetch()
    (tmp_path / 'out' / f'{FIRST}.jpg').unlink()
    archive.files[f'full/{FIRST}.jpg'] = archive.files[f'full/{SECOND}.jpg']
    tell(archive, FIRST)
    there, (fault,) = fetch()
    assert 'it is another image than was fetched before; remove samples.json if you trust it' in fault


@pytest.mark.parametrize(
    'changed',
    [
        dict(isic_id=SECOND),
        dict(files={}),
        dict(file=dict(url='file:///etc/passwd')),
        dict(file=dict(url='http://127.0.0.1/a.sh')),
        dict(file=dict(url='http://127.0.0.1/a.j\\..\\x')),
        dict(file=dict(size=10**12)),
        dict(file=dict(size=float('inf'))),
        dict(metadata=None),
    ],
)
def test_an_answer_that_is_not_understood(changed, fetch, archive, tmp_path):
    tell(archive, FIRST, **changed)
    with pytest.raises(Mistake, match=f'the ISIC archive describes {FIRST} in an unknown way'):
        fetch()


def test_what_has_no_end_is_cut_off(fetch, archive, tmp_path):
    archive.files[f'full/{FIRST}.jpg'] += bytes(3_000_000)  # more than the archive states
    assert fetch()[1] == [
        f'{FIRST}.jpg could not be downloaded.\n  {archive.url}full/{FIRST}.jpg: it is larger than 631 bytes'
        '\nRun it again to continue.'
    ]
    archive.files[f'images/{SECOND}'] += bytes(3_000_000)
    (tmp_path / 'out' / f'{SECOND}.jpg').unlink()
    with pytest.raises(Mistake, match='it is larger than 1000000 bytes'):
        fetch()
    assert not [*(tmp_path / 'out').glob('*.part')]


def test_what_the_archive_says_is_no_command_to_a_terminal(fetch, archive, tmp_path, capsys):
    tell(archive, FIRST, attribution='=cmd()\n\x1b[31m' + 'x' * 300)
    noted = fetch()[0][FIRST]
    assert noted['attribution'] == '=cmd()  [31m' + 'x' * 188
    assert read_csv(tmp_path / 'out' / 'samples.csv')[0]['attribution'] == noted['attribution']


@pytest.mark.parametrize('content', ['', '{}', '[]', '{"a":'])
def test_a_damaged_note_says_what_to_do(content, fetch, tmp_path):
    fetch()
    (tmp_path / 'out' / 'samples.json').write_text(content)
    with pytest.raises(Mistake, match=r'out/samples.json: damaged; remove it, and the images are fetched again'):
        fetch()


@pytest.mark.parametrize('options', [['--timeout', '0'], ['--timeout', 'nan'], ['--attempts', '0']])
def test_patience_that_makes_no_sense(options, tmp_path, capsys):
    assert main(['samples', str(tmp_path), *options]) == 2
    assert 'give seconds up to a day, and 1 or more' in capsys.readouterr().err


def test_the_command(archive, tmp_path, capsys):
    out = tmp_path / 'out'
    assert main(['samples', str(out), '--api', f'{archive.url}images/']) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == [FIRST, 'melanoma', '0.0', 'MB', 'CC-0', 'Memorial', 'Sloan', 'Kettering']
    assert said[-1] == f'try: mmskin predict {out} --metadata {out}/samples.csv'
    tell(archive, SECOND, copyright_license='CC-BY')
    (out / f'{SECOND}.jpg').unlink()
    assert main(['samples', str(out), '--api', f'{archive.url}images/']) == 1
    assert f'{SECOND} is now under CC-BY' in capsys.readouterr().err


def test_without_a_network(tmp_path, capsys):
    nowhere = ['--api', 'http://127.0.0.1:9/', '--attempts', '1']
    assert main(['samples', str(tmp_path / 'out'), *nowhere]) == 2
    (line,) = capsys.readouterr().err.splitlines()[:1]
    assert f'{FIRST}.json could not be downloaded' in line
