import csv
import json
import math
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from mmskin.datasets.transforms.loading import LoadImage, LoadMask
from mmskin.errors import Mistake
from mmskin.files import (
    number_in,
    read_csv,
    read_json,
    read_note,
    signed,
    write_csv,
    write_json,
    write_note,
    write_text,
    write_unless_edited,
    write_whole,
)

FORMULAS = [
    '=1+1',
    '+1+1',
    '-2+3',
    '@SUM(A1)',
    '\t=1',
    '\r=1',
    '\n=1',
    ' =1',
    '＝1+1',
    '＋1',
    '－1',
    '＠A',
    '=cmd|"/c calc"!A1',
]


def test_a_write_that_breaks_off_leaves_the_earlier_file(tmp_path):
    path = tmp_path / 'run.json'
    write_text(path, '{}')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match='too large'):
            write_text(path, 'x' * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == '{}'
    write_text(path, '[1]')
    assert [one.read_text() for one in tmp_path.iterdir()] == ['[1]']


@pytest.mark.parametrize('text', FORMULAS)
def test_no_spreadsheet_runs_a_cell_and_every_text_comes_back(tmp_path, text):
    rows = [['image_id', text], *([f'{quotes}{text}', 'a'] for quotes in ('', "'", "''"))]
    write_csv(tmp_path / 'a.csv', rows)
    with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if cell.lstrip()[0] in '=+-@＝＋－＠' or cell[0] in '\t\r\n'] == []
    found = read_csv(tmp_path / 'a.csv')
    assert [[*found[0]], *([*row.values()] for row in found)] == rows


def test_other_text_is_written_as_it_is(tmp_path):
    words = ['a', "it's", "'quoted'", 'a-b', 'a=b', 'é', '', 'a "b"', 'a,b', 'a\nb', 'ISIC_0000000', "'"]
    write_csv(tmp_path / 'a.csv', [words])
    with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
        assert list(csv.reader(file)) == [words]


def test_numbers_are_not_changed(tmp_path):
    numbers = [
        -1,
        -0.5,
        np.float32(-0.5),
        np.int64(-3),
        -math.inf,
        '-1.50',
        '+2',
        '-1e-07',
        '-.5',
        '-000123',
        True,
        None,
    ]
    write_csv(tmp_path / 'a.csv', [numbers])
    assert (tmp_path / 'a.csv').read_text() == '-1,-0.5,-0.5,-3,-inf,-1.50,+2,-1e-07,-.5,-000123,True,\n'


@pytest.mark.parametrize('delimiter', [';', '\t', '|'])
def test_a_spreadsheet_that_separates_by_other_characters_finds_no_formula_in_an_id(tmp_path, delimiter):
    write_csv(tmp_path / 'a.csv', [[f'a{delimiter}=1+1', 0.5]])
    with (tmp_path / 'a.csv').open(newline='', encoding='utf-8') as file:
        assert [*csv.reader(file, delimiter=delimiter)] == [[f'a{delimiter}=1+1,0.5']]


def test_json_has_null_for_what_it_has_no_number_for(tmp_path):
    values = {
        'a': [1.5, math.nan, (np.float32('inf'), {'b': -math.inf})],
        'c': 'NaN',
        'd': True,
        'e': np.float64(2),
        'f': 10**400,
    }
    write_json(tmp_path / 'a.json', values)
    text = (tmp_path / 'a.json').read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        'a': [1.5, None, [None, {'b': None}]],
        'c': 'NaN',
        'd': True,
        'e': 2.0,
        'f': 10**400,
    }
    assert read_json(tmp_path / 'a.json') == json.loads(text)


def test_a_table_of_ours_that_is_damaged_is_named(tmp_path):
    for text, fault in (
        ('image_id,JA\na,1\nb', 'line 3: has 1 cells, and the first line has 2'),
        ('image_id,JA\na,1,2\n', 'line 2: has 3 cells, and the first line has 2'),
        (f'image_id,JA\n"{"x" * 200_000}",1\n', 'field larger than field limit'),
        ('image_id,JA\na,"1\nb,2\n', 'is not a UTF-8 table .unexpected end of data'),
        ('image_id,JA\na,1\nb,2', 'no end of its last line'),
        ('image_id,JA,JA\na,1,2\n', 'a column twice'),
    ):
        (tmp_path / 'a.csv').write_text(text)
        with pytest.raises(Mistake, match=f'a.csv.*{fault}'):
            read_csv(tmp_path / 'a.csv')


@pytest.mark.parametrize('text', ['nan', 'inf', '1e999', '1_0', '٣', '0x10', '', 'True', '9' * 400])
def test_what_is_no_number_to_a_reader_is_none_to_us(text):
    with pytest.raises(ValueError, match='is not a number'):
        number_in(text)


def test_numbers_are_read_as_they_are_written():
    assert [number_in(text) for text in ('1', '-.5', '2.', '1e-3', '+7')] == [1, -0.5, 2, 1e-3, 7]


def test_a_note_comes_back_as_it_was(tmp_path):
    path = tmp_path / 'run.json'
    write_note(path, {'a': (1, None, 0.1), 3: {'b': 'é'}})
    assert read_note(path) == {'a': [1, None, 0.1], '3': {'b': 'é'}}
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7))  # laid out otherwise
    assert read_note(path)['a'] == [1, None, 0.1]
    write_note(path, {'a': float('nan')})
    assert read_note(path) == {'a': None}


@pytest.mark.parametrize(
    ('damage', 'fault'),
    [
        (lambda text: text.replace('0.5', '0.6'), 'was changed'),
        (lambda text: text.replace('"a"', '"b"'), 'was changed'),
        (lambda text: '{"a": 0.5}', 'was changed'),
        (lambda text: '[]', 'was changed'),
        (lambda text: 'null', 'was changed'),
        (lambda text: text[:-5], 'damaged, or not JSON'),
        (lambda text: '[' * 100_000, 'damaged, or not JSON'),
        (lambda text: '\0', 'damaged, or not JSON'),
    ],
)
def test_a_note_that_was_changed_is_refused(tmp_path, damage, fault):
    path = tmp_path / 'run.json'
    write_note(path, {'a': 0.5})
    path.write_text(damage(path.read_text()))
    with pytest.raises(Mistake, match=f'run.json: {fault}'):
        read_note(path)


def test_a_note_under_another_name_is_refused(tmp_path):
    write_note(tmp_path / 'plan.json', {'a': 1})
    with pytest.raises(Mistake, match='run.json: was changed'):
        read_note((tmp_path / 'plan.json').rename(tmp_path / 'run.json'))


def test_a_link_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / 'victim'
    victim.write_text('kept')
    (tmp_path / 'soft').symlink_to(victim)
    (tmp_path / 'hard').hardlink_to(victim)
    for name in ('soft', 'hard'):
        write_text(tmp_path / name, 'new')
        assert (tmp_path / name).read_text() == 'new' and not (tmp_path / name).is_symlink()
    assert victim.read_text() == 'kept'


@pytest.mark.parametrize('kind', ['pipe', 'link to a device'])
def test_a_pipe_or_device_is_not_replaced(tmp_path, kind):
    """As root, a file that is renamed to /dev/null would take its place."""
    path = tmp_path / 'out.json'
    os.mkfifo(path) if kind == 'pipe' else path.symlink_to(os.devnull)
    with pytest.raises(Mistake, match='out.json: a device or a pipe'):
        write_json(path, {})
    assert not path.is_file() and [*tmp_path.iterdir()] == [path]


def test_devices_and_pipes_are_not_read():
    """Nothing may come from a pipe, /dev/zero has no end, and what is read twice is gone the second time."""
    readers = (read_json, read_csv, lambda path: LoadImage()({'img_path': path}))
    for read in (*readers, lambda path: LoadMask()({'seg_map_path': path, 'img_path': path, 'ori_shape': (1, 1)})):
        with pytest.raises(Mistake, match='/dev/null: .*a device or a pipe'):
            read(os.devnull)


def test_text_with_what_is_none_is_written(tmp_path):
    """As the name of a folder may have it, in a config or on a card."""
    write_text(tmp_path / 'a', 'é ' + os.fsdecode(b'x\xff'))
    assert (tmp_path / 'a').read_text(encoding='utf-8') == r'é x\udcff'


def test_the_longest_name_that_a_disk_takes(tmp_path):
    write_whole(tmp_path / ('x' * 255), b'1')
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


@pytest.mark.parametrize(
    ('values', 'shown'),
    [
        ((0.1234, -0.2), ['+0.123', '-0.200']),
        ((0.0,), ['0.000']),
        ((-0.0, 0.0004), ['0.0000', '+0.0004']),  # of an interval that does not hold 0
        ((0.00012, 0.3), ['+0.0001', '+0.3000']),
        ((4e-9,), ['+4e-09']),
        ((math.nan,), ['+nan']),
    ],
)
def test_no_difference_but_0_reads_as_0(values, shown):
    assert signed(*values) == shown


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    (tmp_path / 'there').mkdir()
    with pytest.raises(OSError, match='.') as caught:
        write_text(tmp_path / 'there', 'text')
    assert caught.value.filename == str(tmp_path / 'there')
    assert [path.name for path in tmp_path.iterdir()] == ['there']


HOLDER = """
import sys, time
from pathlib import Path
from mmskin.files import whole_file, whole_folder
with whole_file(sys.argv[1] + '/a.png') as file, whole_folder(Path(sys.argv[1], 'b')) as folder:
    file.write(b'half')
    (folder / 'half').touch()
    print('written', flush=True)
    time.sleep(60)
"""


def test_a_process_that_is_asked_to_end_leaves_nothing_half_written(tmp_path):
    for asked in (signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen(
            [sys.executable, '-c', HOLDER, tmp_path],
            stdout=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup has set aside
        ) as process:
            process.stdout.readline()
            assert len([*tmp_path.iterdir()]) == 2
            process.send_signal(asked)
        assert process.returncode == 128 + asked
        assert not [*tmp_path.iterdir()]


def test_what_a_killed_process_left_goes_with_the_next_one_that_writes_there(tmp_path):
    """And what a living one is writing stays."""
    holders = [subprocess.Popen([sys.executable, '-c', HOLDER, tmp_path], stdout=subprocess.PIPE) for _ in range(2)]
    for process in holders:
        process.stdout.readline()
    before = {*tmp_path.iterdir()}
    assert len(before) == 4
    dead, living = holders
    dead.kill()
    dead.wait()
    (tmp_path / '.mine.part').touch()
    write_text(tmp_path / 'other', '')
    kept = {*tmp_path.iterdir()} & before
    assert len(kept) == 2
    living.kill()
    living.wait()
    assert (tmp_path / '.mine.part').exists()
    assert os.listdir(next(path for path in kept if path.is_dir())) == ['half']


def test_a_report_that_was_edited_stays(tmp_path, capsys):
    path = tmp_path / 'gates.md'
    for text in ('one', 'two', 'one'):  # nobody has edited it
        assert write_unless_edited(path, text) == path
    assert capsys.readouterr().err == ''
    path.write_text('mine')
    (tmp_path / '.written.json').write_text('{')  # damaged
    for text in ('one', 'two'):
        assert write_unless_edited(path, text) == tmp_path / 'gates.new.md'
        assert (path.read_text(), (tmp_path / 'gates.new.md').read_text()) == ('mine', text)
        assert f'{path}: is not as mmskin wrote it, and stays' in capsys.readouterr().err
    assert write_unless_edited(path, 'mine') == path
    assert write_unless_edited(path, 'three') == path
