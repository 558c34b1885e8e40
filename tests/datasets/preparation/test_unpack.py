import os
import shutil
import stat
import zipfile
from collections import namedtuple

import pytest

from mmskin.datasets.preparation.archives import unpack
from mmskin.errors import Mistake

FILES = {'Data/a.jpg': b'a' * 50, 'Data/b.jpg': b'b' * 60}


@pytest.fixture
def archive(tmp_path):
    """Write an archive of files by name; values are bytes, or a ready entry with its bytes."""

    def write(files):
        with zipfile.ZipFile(tmp_path / 'x.zip', 'w', zipfile.ZIP_DEFLATED) as file:
            for name, data in files.items():
                file.writestr(*(data if isinstance(data, tuple) else (name, data)))
        return tmp_path / 'x.zip'

    return write


def below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_the_folder_that_holds_all_is_left_out(archive, tmp_path):
    assert unpack(archive(FILES), tmp_path / 'out') == 2
    assert below(tmp_path / 'out') == {'a.jpg': b'a' * 50, 'b.jpg': b'b' * 60}


@pytest.mark.parametrize(
    ('names', 'there'),
    [(['a', 'b'], ['a', 'b']), (['x/a', 'b'], ['b', 'x/a']), (['a'], ['a']), (['x/y/a', 'x/b'], ['b', 'y/a'])],
)
def test_other_layouts(archive, tmp_path, names, there):
    unpack(archive(dict.fromkeys(names, b'1')), tmp_path / 'out')
    assert sorted(below(tmp_path / 'out')) == there


def test_litter_and_folders_are_left_out(archive, tmp_path):
    litter = {'./': b'', 'Data/': b'', '__MACOSX/Data/._a.jpg': b'1', 'Data/.DS_Store': b'1'}
    assert unpack(archive({**litter, **FILES}), tmp_path / 'out') == 2
    assert sorted(below(tmp_path / 'out')) == ['a.jpg', 'b.jpg']


@pytest.mark.parametrize(
    'name',
    ['../evil.jpg', 'Data/../../evil.jpg', '/evil.jpg', 'C:/evil.jpg', 'C:evil.jpg', '..\\evil.jpg', 'Data/..', '..'],
)
def test_a_file_outside_the_folder(archive, tmp_path, name):
    with pytest.raises(ValueError, match=r"x.zip is refused, and nothing of it was unpacked: '.*' lies outside"):
        unpack(archive({**FILES, name: b'evil'}), tmp_path / 'deep' / 'out')
    assert sorted(below(tmp_path)) == ['x.zip']


def test_a_file_in_a_file(archive, tmp_path):
    with pytest.raises(
        ValueError, match=r"x.zip is refused, and nothing of it was unpacked: 'a.jpg/b.jpg' lies in a file"
    ):
        unpack(archive({**FILES, 'Data/a.jpg/b.jpg': b'evil'}), tmp_path / 'out')
    assert sorted(below(tmp_path)) == ['x.zip']


def test_a_file_without_a_name(archive, tmp_path):
    with pytest.raises(ValueError, match=r"x.zip is refused, and nothing of it was unpacked: '.' has no name"):
        unpack(archive({**FILES, '.': b'evil'}), tmp_path / 'out')


@pytest.mark.parametrize('kind', [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(archive, tmp_path, kind):
    entry = zipfile.ZipInfo('Data/evil.jpg')
    entry.external_attr = (kind | 0o644) << 16
    with pytest.raises(ValueError, match="'Data/evil.jpg' is a link or a device"):
        unpack(archive({**FILES, 'evil': (entry, '/etc/passwd')}), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_link_that_is_there_is_replaced_and_not_followed(archive, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'victim').write_bytes(b'a' * 50)
    (tmp_path / 'out' / 'a.jpg').symlink_to(tmp_path / 'victim')
    unpack(archive(FILES), tmp_path / 'out')
    assert not (tmp_path / 'out' / 'a.jpg').is_symlink()


def test_a_bomb(archive, tmp_path):
    path = archive({'Data/bomb': bytes(101 << 20)})
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=r'would unpack to 1 files of 105906176 bytes.*104857600 bytes are expected'):
        unpack(path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_too_many_files(archive, tmp_path, monkeypatch):
    monkeypatch.setattr('mmskin.datasets.preparation.archives.MAX_MEMBERS', 1)
    with pytest.raises(ValueError, match='would unpack to 2 files'):
        unpack(archive(FILES), tmp_path / 'out')


def test_an_entry_that_lies_about_its_size(archive, tmp_path):
    path = archive({'Data/a': bytes(10_000)})
    data = path.read_bytes()
    directory = data.rfind(b'PK\x01\x02')
    path.write_bytes(data[: directory + 24] + (10).to_bytes(4, 'little') + data[directory + 28 :])
    with pytest.raises(ValueError, match='x.zip is damaged'):
        unpack(path, tmp_path / 'out')
    assert below(tmp_path / 'out') == {}


def test_two_files_of_one_name(archive, tmp_path):
    entry = zipfile.ZipInfo('Data/a.jpg')
    with pytest.warns(UserWarning, match='Duplicate'):
        path = archive({**FILES, 'again': (entry, b'other')})
    with pytest.raises(ValueError, match="holds 'a.jpg' twice"):
        unpack(path, tmp_path / 'out')


def test_an_encrypted_archive(archive, tmp_path):
    path = archive({'Data/a': b'1'})
    data = bytearray(path.read_bytes())
    data[data.rfind(b'PK\x01\x02') + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="'Data/a' is encrypted"):
        unpack(path, tmp_path / 'out')


@pytest.mark.parametrize('damage', [lambda data: data[:-20], lambda data: b'<html>', lambda data: b''])
def test_what_is_no_archive(archive, tmp_path, damage):
    path = archive(FILES)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match='x.zip is damaged.*delete it and run again'):
        unpack(path, tmp_path / 'out')


def test_a_damaged_file_in_it_does_not_appear(archive, tmp_path):
    path = archive({'Data/a': os.urandom(5000), 'Data/b': b'1'})
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match='x.zip is damaged'):
        unpack(path, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'a').exists()


def test_an_interrupted_unpacking_goes_on(archive, tmp_path):
    path, out = archive(FILES), tmp_path / 'out'

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unpack(path, out, interrupt)
    before, reports = (out / 'a.jpg').stat(), []
    unpack(path, out, lambda done, total: reports.append((done, total)))
    assert reports == [(110, 110)], 'the other file is there'
    assert (out / 'a.jpg').stat() == before
    assert below(out) == {'a.jpg': b'a' * 50, 'b.jpg': b'b' * 60}


def test_no_link_of_an_earlier_day_is_followed(archive, tmp_path):
    """Neither one in place of a folder, nor one in place of a file."""
    victim = tmp_path / 'victim'
    victim.mkdir()
    (victim / 'file').write_bytes(b'kept')
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/x').symlink_to(victim)
    with pytest.raises(ValueError, match='out/x is a link, and nothing is written through one; remove it'):
        unpack(archive({'x/a.jpg': b'1', 'x/deep/b.jpg': b'1', 'c.jpg': b'1'}), tmp_path / 'out')
    assert below(victim) == {'file': b'kept'}
    (tmp_path / 'out/x').unlink()
    for make in (os.symlink, os.link):
        make(victim / 'file', tmp_path / 'out/a.jpg')
        unpack(archive(FILES), tmp_path / 'out')
        assert below(victim) == {'file': b'kept'}
        assert below(tmp_path / 'out') == {'a.jpg': b'a' * 50, 'b.jpg': b'b' * 60}
        shutil.rmtree(tmp_path / 'out')
        (tmp_path / 'out').mkdir()


def test_a_folder_that_is_itself_a_link_is_what_the_user_means(archive, tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'out').symlink_to(tmp_path / 'disk')
    assert unpack(archive(FILES), tmp_path / 'out') == 2
    assert sorted(below(tmp_path / 'disk')) == ['a.jpg', 'b.jpg']


@pytest.mark.parametrize('content', [b'short', b'x' * 50])
def test_a_file_that_is_there_but_wrong_is_written_again(archive, tmp_path, content):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'a.jpg').write_bytes(content)
    unpack(archive(FILES), tmp_path / 'out')
    assert below(tmp_path / 'out')['a.jpg'] == b'a' * 50


def test_a_full_disk_is_said_beforehand(archive, tmp_path, monkeypatch):
    usage = namedtuple('usage', 'free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage(100))
    with pytest.raises(Mistake, match=r'unpacking x.zip takes 0.0 GB, and the disk of .* has 0.0 GB free; make room'):
        unpack(archive(FILES), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()
