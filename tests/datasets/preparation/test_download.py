import errno
import hashlib
import os
import resource

import pytest

from mmskin.datasets.preparation.archives import read_checksums, write_checksums
from mmskin.datasets.preparation.download import Origin, PartialFile, Patience, download, remote_size
from mmskin.errors import Mistake
from mmskin.files import read_note, write_note

DATA = bytes(range(256)) * 400  # 102400 bytes
NEW = DATA[::-1]


def right(path, data=DATA):
    """As ``archives.verify`` does."""
    if path.read_bytes() != data:
        raise ValueError(f'{path} has other bytes')
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def get(server, hasty, tmp_path):
    """Download ``file`` to ``tmp_path/file`` and return its bytes."""
    server.files['file'] = DATA

    def run(verify=right, urls=None, patience=hasty, **options):
        download(urls or [server.url + 'file'], tmp_path / 'file', verify, patience, **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == ['file'], 'nothing is left over'
        return (tmp_path / 'file').read_bytes()

    return run


def interrupt(get, server, after=1000, **changes):
    """Have a download fail for good after some bytes, then change the server."""
    server.faults = [f'break:{after}', 'status:404']
    with pytest.raises(Mistake):
        get()
    server.requests.clear()
    for name, value in changes.items():
        setattr(server, name, value)


def test_a_file_comes_whole(get, server):
    assert get() == DATA
    assert server.asked == [None]


def test_the_address_and_the_verdict_are_returned(server, tmp_path, hasty):
    server.files['file'] = DATA
    url = server.url + 'file'
    assert download([url], tmp_path / 'file', right, hasty) == (url, hashlib.sha256(DATA).hexdigest())


def test_progress_is_reported_up_to_the_whole(server, tmp_path, hasty):
    server.files['file'], told = DATA, []
    download([server.url + 'file'], tmp_path / 'file', right, hasty, lambda *numbers: told.append(numbers))
    assert told[-1] == (len(DATA), len(DATA))
    assert told == sorted(told)


def test_a_broken_download_goes_on_where_it_broke_off(get, server):
    server.faults = ['break:1000', 'break:500']
    assert get() == DATA
    assert server.asked == [None, 'bytes=1000-', 'bytes=1500-']


def test_gained_bytes_start_the_count_of_failures_again(get, server):
    server.faults = ['break:1000'] * 20
    assert get() == DATA
    assert len(server.asked) == 21


def test_a_stalled_download_goes_on(get, server):
    server.faults = ['stall:1000']
    assert get() == DATA
    assert server.asked == [None, 'bytes=1000-']


def test_a_later_call_goes_on(get, server):
    interrupt(get, server)
    assert get() == DATA
    assert server.asked == ['bytes=1000-']
    assert server.requests[0][2]['If-Range'] == '"1"'


def test_a_complete_part_is_not_asked_for_again(get, server, tmp_path):
    interrupt(get, server)
    (tmp_path / 'file.part').write_bytes(DATA)
    assert get() == DATA
    assert server.asked == []


def test_a_server_that_ignores_ranges_starts_over(get, server):
    interrupt(get, server, ranges=False)
    assert get() == DATA
    assert server.asked == ['bytes=1000-']


def test_a_server_that_ignores_ranges_and_always_breaks_off_is_given_up(get, server):
    server.ranges, server.faults = False, ['break:1000'] * 50
    with pytest.raises(Mistake, match='broke off after 1000 of 102400 bytes'):
        get()
    assert len(server.asked) == 3


@pytest.mark.parametrize('heeds', [True, False], ids=['honours If-Range', 'ignores If-Range'])
@pytest.mark.parametrize('key', ['etag', 'modified'])
def test_a_file_that_has_changed_starts_over(get, server, key, heeds):
    server.etag, server.modified = '', ''
    setattr(server, key, 'before')
    interrupt(get, server, files={'file': NEW}, heeds_if_range=heeds, **{key: 'after'})
    assert get(lambda path: right(path, NEW)) == NEW


def test_a_file_of_another_size_starts_over_without_any_version(get, server):
    server.etag = ''
    interrupt(get, server, files={'file': NEW + b'!'})
    assert get(lambda path: right(path, NEW + b'!')) == NEW + b'!'


def test_a_weak_etag_is_no_if_range(get, server):
    server.etag = 'W/"1"'
    interrupt(get, server)
    assert get() == DATA
    assert 'If-Range' not in server.requests[0][2]


def test_what_was_put_together_wrongly_is_fetched_again(get, server):
    """A file that changed without any sign of it."""
    server.etag = ''
    interrupt(get, server, files={'file': NEW})
    assert get(lambda path: right(path, NEW)) == NEW
    assert server.asked == ['bytes=1000-', None]


def test_wrong_bytes_are_no_success_and_are_not_kept(get, server, tmp_path):
    server.faults = ['wrong']
    with pytest.raises(Mistake, match='has other bytes'):
        get()
    assert list(tmp_path.iterdir()) == []


def test_a_part_without_its_notes_is_not_trusted(get, server, tmp_path):
    (tmp_path / 'file.part').write_bytes(b'who knows')
    assert get() == DATA
    assert server.asked == [None]


def test_a_write_that_breaks_off_leaves_earlier_notes_and_sums(tmp_path):
    """Without its notes, gigabytes of a part would be of no use."""
    part, sums = PartialFile(tmp_path / 'file'), tmp_path / 'sums'
    part.begin(Origin('before'))
    write_checksums(sums, {'before': '0' * 64})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        for write in (lambda: part.begin(Origin('after')), lambda: write_checksums(sums, {'after': '1' * 64})):
            with pytest.raises(OSError, match='too large'):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert part.origin() == Origin('before')
    assert read_checksums(sums) == {'before': '0' * 64}


def test_checksums_in_another_encoding_are_named(tmp_path):
    """As PowerShell writes what a command prints."""
    (tmp_path / 'sums').write_text(f'{"0" * 64}  file\n', encoding='utf-16')
    with pytest.raises(ValueError, match='sums is not UTF-8 text'):
        read_checksums(tmp_path / 'sums')


@pytest.mark.parametrize('make', [os.symlink, os.link])
def test_a_part_that_is_a_link_is_not_written_through(get, server, tmp_path, tmp_path_factory, make):
    interrupt(get, server)
    victim = tmp_path_factory.mktemp('elsewhere') / 'victim'
    (tmp_path / 'file.part').rename(victim)
    make(victim, tmp_path / 'file.part')
    assert get() == DATA
    assert len(victim.read_bytes()) < len(DATA)
    assert not (tmp_path / 'file').is_symlink()
    assert server.asked == [None]


@pytest.mark.parametrize('notes', ['', '[]', '{"url": 1, "strange": 2}'])
def test_damaged_notes_are_not_trusted(get, server, tmp_path, notes):
    interrupt(get, server)
    (tmp_path / 'file.part.json').write_text(notes)
    assert get() == DATA
    assert server.asked == [None]


def test_a_part_longer_than_the_whole_is_not_trusted(get, server, tmp_path):
    interrupt(get, server)
    (tmp_path / 'file.part').write_bytes(DATA + b'!')
    assert get() == DATA
    assert server.asked == [None]


def test_a_range_that_the_server_refuses_starts_over(get, server, tmp_path):
    interrupt(get, server)
    write_note(tmp_path / 'file.part.json', {**read_note(tmp_path / 'file.part.json'), 'size': None})
    (tmp_path / 'file.part').write_bytes(DATA)
    assert get() == DATA
    assert server.asked == ['bytes=102400-', None]


def test_a_server_that_states_no_size(get, server):
    server.states_size = False
    assert get() == DATA


@pytest.mark.parametrize(('status', 'requests'), [(503, 3), (429, 3), (404, 1), (403, 1)])
def test_only_passing_failures_are_retried(get, server, status, requests):
    server.faults = [f'status:{status}'] * 9
    with pytest.raises(Mistake, match=f'HTTP Error {status}'):
        get()
    assert len(server.asked) == requests


def test_a_busy_server_is_asked_again(get, server):
    server.faults = ['status:503', 'status:500']
    assert get() == DATA


def test_pauses_double(get, server, monkeypatch):
    pauses = []
    monkeypatch.setattr('mmskin.datasets.preparation.download.time.sleep', pauses.append)
    server.faults = ['status:503'] * 8
    with pytest.raises(Mistake):
        get(patience=Patience(0.3, 8, 1.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60]


def test_the_next_address_is_tried(get, server):
    assert get(urls=[server.url + 'nothing', server.url + 'file']) == DATA


def test_the_address_that_a_part_is_from_comes_first(get, server):
    interrupt(get, server)
    assert get(urls=[server.url + 'nothing', server.url + 'file']) == DATA
    assert server.asked == ['bytes=1000-']


def test_the_error_names_addresses_and_advice(get, server):
    with pytest.raises(Mistake) as error:
        get(urls=[server.url + 'a', 'http://127.0.0.1:9/b'], advice=', or else')
    for text in ('/a: HTTP Error 404', '127.0.0.1:9/b: ', 'Run it again to continue, or else.'):
        assert text in str(error.value)


def test_a_full_disk_is_no_fault_of_the_network(hasty, server, tmp_path):
    def full(done, total):
        raise OSError(errno.ENOSPC, 'No space left on device')

    server.files['file'] = DATA
    with pytest.raises(OSError, match='No space left'):
        download([server.url + 'file'], tmp_path / 'file', right, hasty, full)
    assert len(server.asked) == 1


def test_the_size_is_asked_beforehand(server):
    server.files['file'] = DATA
    assert remote_size([server.url + 'nothing', server.url + 'file'], 1) == len(DATA)
    assert remote_size([server.url + 'nothing', 'http://[no/address'], 1) is None
    assert server.asked == []
