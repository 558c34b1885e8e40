import contextlib
import hashlib
import json
import os
import shutil
import time
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from filelock import FileLock

from mmskin.cli import main
from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.preparation.archives import read_checksums
from mmskin.datasets.preparation.prepare import Settings, prepare, resized
from mmskin.errors import Mistake

IMAGES = 'ISIC-2017_Training_Data'
TABLE = 'ISIC-2017_Training_Part3_GroundTruth.csv'


@pytest.fixture
def settings(tmp_path, catalogue, hasty):
    """Of a download from nowhere."""
    return Settings('isic2017', tmp_path / 'data', catalogue=catalogue, patience=hasty, workers=2)


@pytest.fixture
def local(settings, official, tmp_path):
    """Of archives on disk, that a test may spoil."""
    return replace(settings, sources=[shutil.copytree(official, tmp_path / 'archives')], offline=True)


def stamps(folder):
    """What would change if a file was written again."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob('*') if path.is_file()}


def test_downloaded_unpacked_checked_and_resized(settings, serving, tmp_path):
    serving.faults = ['break:100', 'stall:200', 'status:503']
    done = prepare(replace(settings, mirrors=[serving.url], resize=24))
    assert done.problems == []
    for folder in ('data', 'data_24'):
        assert [len(ISIC2017Dataset(tmp_path / folder, split)) for split in ('train', 'val', 'test')] == [6, 3, 3]
    assert done.splits['train'].check.classes == {'melanoma': 2, 'nevus': 2, 'seborrheic_keratosis': 2}
    assert set(done.splits['train'].check.sizes.values()) == {(64, 48)}
    assert set(done.copied_splits['train'].check.sizes.values()) == {(24, 24)}
    ages = ISIC2017Dataset(tmp_path / 'data_24', 'val', inputs=dict(age='age_approximate'))
    assert len(ages) == 3, 'the copy has no table of ages'
    record = done.archives[f'{IMAGES}.zip']
    assert record.source == f'{serving.url}{IMAGES}.zip'
    assert record.files == 13
    assert record.sha256 == hashlib.sha256(serving.files[f'{IMAGES}.zip']).hexdigest()


def test_the_reports(local, tmp_path):
    done = prepare(local)
    text = (tmp_path / 'data' / 'preparation.txt').read_text()
    assert text == done.text()
    assert 'train: 6 images (2 melanoma, 2 nevus, 2 seborrheic keratosis), 64x48 to 64x48 pixels' in text
    assert 'the collection has 2000' in text
    assert text.endswith("what is here is in order; the collection's counts are others\n")
    written = json.loads((tmp_path / 'data' / 'preparation.json').read_text())
    assert written['splits']['val']['check']['images'] == 3
    sums = read_checksums(tmp_path / 'data' / 'checksums.sha256')
    assert sums == {name: one.sha256 for name, one in done.archives.items()}


def test_a_second_run_does_nothing_again(local, tmp_path, monkeypatch):
    done = prepare(replace(local, resize=24))
    before = stamps(tmp_path)
    for name in ('hashlib.new', 'shutil.copyfileobj', 'cv2.imdecode'):
        monkeypatch.setattr(name, lambda *args, **options: pytest.fail('done already'))
    again = prepare(replace(local, resize=24))
    changed = {path.name for path, stamp in stamps(tmp_path).items() if before[path] != stamp}
    assert again == done
    assert changed <= {
        'preparation.json',
        'preparation.txt',
        'checksums.sha256',
        'native_sizes.csv',
        'lesions.csv',
        'leaks.csv',
        'isic2017.py',
        'prints.npz',
        '.preparation.lock',
    }


@pytest.mark.parametrize('folder', [IMAGES, f'../data_24/{IMAGES}'])
def test_a_folder_that_is_a_link_is_not_written_through(local, tmp_path, folder):
    victim, link = tmp_path / 'victim', tmp_path / 'data' / folder
    victim.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    with pytest.raises(ValueError, match=f'{IMAGES} is a link, and nothing is written through one; remove it'):
        prepare(replace(local, resize=24))
    assert [*victim.iterdir()] == []


def test_nothing_is_downloaded_through_a_link_either(settings, serving, tmp_path):
    (tmp_path / 'victim').mkdir()
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/archives').symlink_to(tmp_path / 'victim')
    with pytest.raises(ValueError, match='archives is a link'):
        prepare(replace(settings, mirrors=[serving.url]))
    assert [*(tmp_path / 'victim').iterdir()] == []


@pytest.mark.parametrize('make', [os.symlink, os.link])
def test_files_that_are_links_are_replaced_and_not_followed(local, tmp_path, make):
    names = [TABLE, f'{IMAGES}/SYN_0000000.jpg', 'preparation.json', 'preparation.txt', 'checksums.sha256']
    copies = [f'{IMAGES}/SYN_0000000.jpg', TABLE, 'native_sizes.csv']
    links = [*(tmp_path / 'data' / name for name in names), *(tmp_path / 'data_24' / name for name in copies)]
    for number, link in enumerate(links):
        (tmp_path / f'victim{number}').write_text('kept')
        link.parent.mkdir(parents=True, exist_ok=True)
        make(tmp_path / f'victim{number}', link)
    assert prepare(replace(local, resize=24)).problems == []
    assert [(tmp_path / f'victim{number}').read_text() for number in range(len(links))] == ['kept'] * len(links)
    assert not any(link.is_symlink() for link in links)


def test_the_lock_follows_no_link(local, tmp_path):
    (tmp_path / 'victim').write_text('kept')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/.preparation.lock').symlink_to(tmp_path / 'victim')
    with contextlib.suppress(OSError):
        prepare(local)
    assert (tmp_path / 'victim').read_text() == 'kept'


def test_a_target_that_is_itself_a_link_is_what_the_user_means(local, tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'data').symlink_to(tmp_path / 'disk')
    assert prepare(local).problems == []
    assert (tmp_path / 'disk' / IMAGES).is_dir()


def test_archives_may_be_removed_once_unpacked(local):
    prepare(local)
    shutil.rmtree(local.sources[0])
    local = replace(local, sources=[])
    assert prepare(local).problems == []


def test_what_is_lost_is_unpacked_again(local, tmp_path):
    prepare(local)
    (tmp_path / 'data' / IMAGES / 'SYN_0000002.jpg').unlink()
    assert prepare(local).problems == []
    assert (tmp_path / 'data' / IMAGES / 'SYN_0000002.jpg').is_file()


def test_missing_archives_are_downloaded_beside_the_others(local, serving, tmp_path):
    (tmp_path / 'archives' / TABLE).unlink()
    prepare(replace(local, offline=False, mirrors=[serving.url]))
    assert [path for method, path, _ in serving.requests if method == 'GET'] == [f'/{TABLE}']
    assert (tmp_path / 'data' / 'archives' / TABLE).is_file()


def test_missing_archives_offline(local, tmp_path):
    (tmp_path / 'archives' / TABLE).unlink()
    with pytest.raises(FileNotFoundError, match=f'{TABLE} missing; name them, .* They are at https://challenge.isic'):
        prepare(local)


def test_only_the_splits_that_are_wanted(local, tmp_path):
    done = prepare(replace(local, splits=('val',)))
    assert list(done.splits) == ['val']
    assert not (tmp_path / 'data' / IMAGES).exists()
    assert set(prepare(replace(local, splits=('test',))).splits) == {'val', 'test'}


# Hashes


def with_sums(settings, *names):
    """The settings, with wrong checksums of some archives."""
    known = settings.catalogue['isic2017']
    wrong = tuple(replace(one, checksum='0' * 32) if one.name in names else one for one in known.archives)
    return replace(settings, catalogue={'isic2017': replace(known, archives=wrong)})


def test_a_known_hash_is_compared(local, tmp_path):
    with pytest.raises(ValueError, match=f'{TABLE} has the md5 [0-9a-f]{{32}} and should have 0000.*--checksums'):
        prepare(with_sums(local, TABLE))


def test_given_checksums_win(local, official, tmp_path):
    sums, wrong = tmp_path / 'sums', with_sums(local, *(path.name for path in official.iterdir()))
    lines = [f'{hashlib.sha512(path.read_bytes()).hexdigest()} *{path}\n' for path in sorted(official.iterdir())]
    sums.write_text('# comment\n\n' + ''.join(lines))
    done = prepare(replace(wrong, checksums=sums))
    assert all(one.checksum for one in done.archives.values())


def test_checksums_given_later_are_compared_too(local, tmp_path):
    prepare(local)
    (tmp_path / 'sums').write_text(f'{"0" * 64}  {TABLE}\n')
    with pytest.raises(ValueError, match=f'{TABLE} has the sha256'):
        prepare(replace(local, checksums=tmp_path / 'sums'))


def test_checksums_are_compared_with_those_of_earlier_runs(local, official, tmp_path):
    good = tmp_path / 'good'
    good.write_text(f'{hashlib.md5((official / TABLE).read_bytes()).hexdigest()}  {TABLE}\n')
    assert prepare(replace(local, checksums=good)).archives[TABLE].checksum
    (tmp_path / 'bad').write_text(f'{"0" * 64}  {TABLE}\n')
    with pytest.raises(ValueError, match=f'{TABLE} has the sha256'):
        prepare(replace(local, checksums=tmp_path / 'bad'))


def test_the_whole_is_told_from_a_part(local):
    known = replace(local.catalogue['isic2017'], counts=dict(train=6, val=3, test=3))
    assert prepare(replace(local, catalogue={'isic2017': known})).text().endswith('everything is in order\n')


@pytest.mark.parametrize(
    ('setting', 'message'), [(dict(workers=0), 'workers=0'), (dict(mirrors=('foo',)), 'mirror foo: give an address')]
)
def test_senseless_settings_are_refused_at_once(local, setting, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        prepare(replace(local, **setting))
    assert not (tmp_path / 'data').exists()


def test_a_copy_beside_the_working_folder(local, tmp_path, monkeypatch):
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    prepare(replace(local, out_dir='.', resize=24))
    assert len(ISIC2017Dataset(tmp_path / 'here_24', 'val')) == 3


def test_the_sums_of_one_run_are_those_of_another(local, tmp_path):
    prepare(local)
    done = prepare(replace(local, out_dir=tmp_path / 'other', checksums=tmp_path / 'data' / 'checksums.sha256'))
    assert all(one.checksum for one in done.archives.values())


@pytest.mark.parametrize('line', ['abc  file.zip', 'x' * 32 + '  file.zip', 'file.zip'])
def test_a_list_that_is_none(local, tmp_path, line):
    (tmp_path / 'sums').write_text(f'{"0" * 32}  a\n{line}\n')
    with pytest.raises(ValueError, match='sums, line 2: .* is not a checksum and a file name'):
        prepare(replace(local, checksums=tmp_path / 'sums'))


def test_a_list_that_is_not_there(local, tmp_path):
    with pytest.raises(FileNotFoundError, match='sums: no such list of checksums'):
        prepare(replace(local, checksums=tmp_path / 'sums'))


# Faults


@pytest.mark.parametrize('name', [f'{IMAGES}.zip', TABLE])
def test_a_page_in_place_of_the_file(settings, serving, name):
    serving.files[name] = b'<html>please log in</html>'
    with pytest.raises(Mistake, match=f'{name}.part is not a '):
        prepare(replace(settings, mirrors=[serving.url]))


def test_a_harmful_archive(local, tmp_path):
    target = tmp_path / 'archives' / f'{IMAGES}.zip'
    with zipfile.ZipFile(target, 'a') as file:
        file.writestr('../../evil.jpg', b'evil')
    with pytest.raises(ValueError, match="Training_Data.zip is refused, .* '../../evil.jpg' lies outside"):
        prepare(local)
    assert not list(tmp_path.rglob('evil*'))


def test_an_archive_exchanged_for_a_better_one(local, official, tmp_path):
    target = tmp_path / 'archives' / f'{IMAGES}.zip'
    shutil.copy(official / 'ISIC-2017_Validation_Data.zip', target)
    assert 'Training_Part1_GroundTruth but without an image' in prepare(local).problems[0]
    shutil.copy(official / f'{IMAGES}.zip', target)
    os.utime(target, (1, 1))
    prepare(local)
    assert len(list((tmp_path / 'data' / IMAGES).glob('SYN_00*.jpg'))) == 6


def test_every_fault_of_the_data_is_reported_and_no_copy_made(local, tmp_path):
    prepare(local)
    folder = tmp_path / 'data'
    (folder / IMAGES / 'SYN_0000001.jpg').write_bytes(b'no image')
    mask = folder / 'ISIC-2017_Training_Part1_GroundTruth' / 'SYN_0000002_segmentation.png'
    cv2.imwrite(str(mask), np.zeros((10, 10), np.uint8))
    empty = folder / 'ISIC-2017_Validation_Part1_GroundTruth' / 'SYN_1000000_segmentation.png'
    cv2.imwrite(str(empty), np.zeros((48, 64), np.uint8))
    table = folder / 'ISIC-2017_Test_v2_Part3_GroundTruth.csv'
    table.write_text(table.read_text().replace('SYN_2000001', 'STRANGE'))
    done = prepare(replace(local, resize=24))
    first, second, third = done.problems
    assert 'SYN_0000001.jpg: not an image that can be read' in first
    assert 'SYN_0000002_segmentation.png is 10x10 pixels' in second
    assert 'STRANGE' in third
    assert done.splits['val'].check.without_lesion == ['SYN_1000000']
    assert not (tmp_path / 'data_24').exists()
    assert '3 problems found' in done.text()


def test_a_fault_of_the_copy_is_reported_and_mended(local, tmp_path):
    prepare(replace(local, resize=24))
    spoilt = tmp_path / 'data_24' / IMAGES / 'SYN_0000001.jpg'
    spoilt.write_bytes(b'no image')
    assert 'data_24/ISIC-2017_Training_Data/SYN_0000001.jpg: not' in prepare(replace(local, resize=24)).problems[0]
    spoilt.unlink()
    assert prepare(replace(local, resize=24)).problems == []


def test_too_small_a_disk_is_said_before_the_download(settings, serving, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: type('usage', (), {'free': 1000}))
    with pytest.raises(Mistake, match='downloading and unpacking takes .* make room'):
        prepare(replace(settings, mirrors=[serving.url]))
    assert serving.asked == []


def test_two_at_once(local, tmp_path):
    (tmp_path / 'data').mkdir()
    with (
        FileLock(tmp_path / 'data' / '.preparation.lock'),
        pytest.raises(Mistake, match='another process is preparing'),
    ):
        prepare(local)


@pytest.mark.parametrize('size', [0, 100_000])
def test_a_size_that_makes_no_sense(local, size):
    with pytest.raises(ValueError, match=f'resize={size}: give the pixels'):
        prepare(replace(local, resize=size))


@pytest.mark.parametrize('place', ['data/lesions.csv', 'data/isic2017.py', 'data_24/leaks.csv', 'data_24/isic2017.py'])
def test_files_of_the_user_s_own_are_kept(local, tmp_path, place):
    (tmp_path / place).parent.mkdir()
    (tmp_path / place).write_text('mine')
    with pytest.raises(ValueError, match=f'{place} was not written by mmskin prepare, and would be replaced; move it'):
        prepare(replace(local, resize=24))
    assert [path.name for path in (tmp_path / place).parent.iterdir()] == [(tmp_path / place).name]
    assert (tmp_path / place).read_text() == 'mine'


def test_what_a_user_edited_stays(local, tmp_path, capsys):
    folders, names = [tmp_path / 'data', tmp_path / 'data_24'], ['isic2017.py', 'lesions.csv']
    prepare(replace(local, resize=24))
    written = {folder / name: (folder / name).read_text() for folder in folders for name in names}
    prepare(replace(local, resize=24))
    assert 'stays' not in capsys.readouterr().err
    for path, text in written.items():
        path.write_text(text.replace('melanoma', 'mole'))
    prepare(replace(local, resize=24))
    said = capsys.readouterr().err
    for path, text in written.items():
        new = path.with_suffix(f'.new{path.suffix}')
        assert (path.read_text(), new.read_text()) == (text.replace('melanoma', 'mole'), text)
        assert f'{path}: is not as mmskin wrote it, and stays; the new one is {new}' in said


def test_damaged_notes_of_an_earlier_run(local, tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'preparation.json').write_text('{"archives": {"x": {}}}')
    assert prepare(local).problems == []


# The smaller copy


def test_masks_keep_their_values_and_their_place(tmp_path):
    """A mask of 8 x 8, each half of which is a multiple of the copy's pixels, and one that is off by one."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    cv2.imwrite(str(tmp_path / 'm.png'), mask)
    small = cv2.imdecode(np.frombuffer(resized(tmp_path / 'm.png', 2, is_mask=True), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert small.tolist() == [[0, 255], [0, 255]]
    mask[:, 2:4] = 255  # over the centre of the left pixels: plain INTER_NEAREST takes column 0
    cv2.imwrite(str(tmp_path / 'm.png'), mask)
    small = cv2.imdecode(np.frombuffer(resized(tmp_path / 'm.png', 2, is_mask=True), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert small.tolist() == [[255, 255], [255, 255]]


def test_images_are_averaged(tmp_path):
    image = np.zeros((4, 8, 3), np.uint8)
    image[::2] = 100
    cv2.imwrite(str(tmp_path / 'i.png'), image)
    small = cv2.imdecode(np.frombuffer(resized(tmp_path / 'i.png', 2), np.uint8), cv2.IMREAD_COLOR)
    assert np.unique(small).tolist() == [50]


def test_the_copy_follows_its_originals(local, tmp_path):
    prepare(replace(local, resize=24))
    kept, changed = (tmp_path / 'data_24' / IMAGES / f'SYN_000000{index}.jpg' for index in (0, 1))
    before = kept.stat().st_mtime_ns, changed.stat().st_mtime_ns
    original = tmp_path / 'data' / IMAGES / changed.name
    os.utime(original, (time.time() + 10,) * 2)
    prepare(replace(local, resize=24))
    assert kept.stat().st_mtime_ns == before[0]
    assert changed.stat().st_mtime_ns != before[1]
    assert (
        (tmp_path / 'data_24' / 'native_sizes.csv').read_text().startswith('image_id,width,height\nSYN_0000000,64,48\n')
    )


def test_the_copy_is_like_the_one_that_is_trained_on(real_data, tmp_path):
    """Someone else made it, at a lower JPEG quality: a few grey levels, and masks but for some pixels of the edge."""
    for name in ('isic2017_native', 'isic2017_256'):
        assert (real_data / name).is_dir()
    for path in sorted((real_data / 'isic2017_native' / 'ISIC-2017_Validation_Data').iterdir())[:3]:
        theirs = cv2.imread(str(real_data / 'isic2017_256' / 'ISIC-2017_Validation_Data' / path.name))
        ours = cv2.imdecode(np.frombuffer(resized(path, 256), np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(ours.astype(int) - theirs).mean() < 3
        mask = f'ISIC-2017_Validation_Part1_GroundTruth/{path.stem}_segmentation.png'
        small = np.frombuffer(resized(real_data / 'isic2017_native' / mask, 256, is_mask=True), np.uint8)
        ours, theirs = cv2.imdecode(small, 0), cv2.imread(str(real_data / 'isic2017_256' / mask), 0)
        assert (ours != theirs).mean() < 0.002


# The command


@pytest.fixture
def call(capsys):
    """The command's exit status, output and errors."""

    def run(*arguments):
        return (main(['prepare', 'isic2017', *map(str, arguments)]), *capsys.readouterr())

    return run


def test_the_command(call, official, tmp_path):
    sums = tmp_path / 'sums'
    lines = [f'{hashlib.md5(path.read_bytes()).hexdigest()}  {path.name}\n' for path in official.iterdir()]
    sums.write_text(''.join(lines))
    options = [official, '--out', tmp_path / 'data', '--offline', '--checksums', sums]
    status, output, errors = call(*options, '--resize', 24, '--splits', 'train', 'val')
    assert status == 0, errors
    assert 'what is here is in order' in output
    assert f'train with: mmskin train {tmp_path}/data_24/isic2017.py' in output
    assert len(ISIC2017Dataset(tmp_path / 'data_24', 'val')) == 3
    (tmp_path / 'data' / IMAGES / 'SYN_0000001.jpg').write_bytes(b'')
    status, output, _ = call(*options)
    assert status == 1
    assert '1 problem found' in output


def test_the_command_says_what_is_wrong_in_a_line(call, official, tmp_path):
    status, _, errors = call(official, '--out', tmp_path / 'data', '--offline')
    assert status == 2
    assert 'should have' in errors.splitlines()[-1]
