"""Images and masks in LMDB and in tar shards: the same samples as from files."""

import gzip
import pickle
import shutil
import tarfile
from pathlib import Path

import lmdb
import pytest
import torch
from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from mmskin.datasets.cache import files_at_fault, write_cache
from mmskin.datasets.csv_dataset import CsvLesionDataset
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.errors import MissingFile, Mistake

PIPELINE = [
    dict(type='LoadImage', size=32, smallest_crop=0.8),
    dict(type='LoadMask'),
    dict(type='RandomWarp'),
    dict(type='PackTaskSample'),
]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Six images in a folder, with masks of all but one, and ids that lack the files' endings."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user'))
    init_default_scope('mmskin')
    root = tmp_path / 'set'
    SyntheticLesions(seed=5, shape=(48, 64)).write(root, num_train=6, num_val=1, num_test=1)
    (root / 'ISIC-2017_Training_Data').rename(root / 'images')
    (root / 'ISIC-2017_Training_Part1_GroundTruth').rename(root / 'masks')
    (root / 'masks' / 'SYN_0000003_segmentation.png').unlink()
    rows = [f'images/SYN_000000{index},SYN_000000{index}' for index in range(6)]
    (root / 'list.csv').write_text('\n'.join(['image,id', *rows]) + '\n')
    return root / 'list.csv'


def stored_in_lmdb(root):
    environment = lmdb.open(str(root / 'all.lmdb'), map_size=2**22)
    with environment.begin(write=True) as transaction:
        for file in (*root.glob('images/*.jpg'), *root.glob('masks/*.png')):
            transaction.put(str(file.relative_to(root)).encode(), file.read_bytes())
    environment.close()
    return dict(backend='lmdb', db_path=str(root / 'all.lmdb'))


def stored_in_tars(root):
    files = sorted((*root.glob('images/*.jpg'), *root.glob('masks/*.png')))
    (root / 'shards').mkdir()
    for number in range(3):
        with tarfile.open(root / 'shards' / f'{number:04}.tar', 'w') as archive:
            for file in files[number::3]:
                archive.add(file, f'./{file.relative_to(root)}')
    return dict(backend='tar', path=str(root / 'shards'))


STORES = pytest.mark.parametrize('store', [stored_in_lmdb, stored_in_tars])


def opened(table, **options):
    return CsvLesionDataset(table, mask='masks/{id}_segmentation.png', pipeline=PIPELINE, **options)


@STORES
def test_samples_are_those_of_the_files(table, store, tmp_path):
    plain = opened(table)
    samples = [plain[index] for index in range(len(plain))]
    backend_args = store(table.parent)
    shutil.rmtree(table.parent / 'images')
    shutil.rmtree(table.parent / 'masks')
    found = opened(table, backend_args=backend_args)
    assert [*write_cache([found], tmp_path / 'cache')] == ['6 of 6 images']
    kinds = {
        'here': found,
        'by workers': DataLoader(found, batch_size=None, num_workers=2),
        'in another process': pickle.loads(pickle.dumps(found)),
        'from a cache': opened(table, backend_args=backend_args, cache=tmp_path / 'cache'),
    }
    for name, kind in kinds.items():
        got = [*kind] if isinstance(kind, DataLoader) else [kind[index] for index in range(len(kind))]
        for one, other in zip(samples, got, strict=True):
            assert torch.equal(one['inputs'], other['inputs']), name
            masks = [sample['data_samples'].get('gt_sem_seg') for sample in (one, other)]
            assert (masks[0] is None) == (masks[1] is None)
            assert masks[0] is None or torch.equal(masks[0].data, masks[1].data)
    assert found[0]['data_samples'].img_path == f'{backend_args["backend"]}://images/SYN_0000000.jpg'


@STORES
def test_what_is_not_there_is_named_by_line(table, store):
    backend_args = store(table.parent)
    where = Path(backend_args.get('path') or backend_args['db_path']).name
    table.write_text(table.read_text() + 'images/gone.jpg,gone\n')
    with pytest.raises(Mistake, match=f'list.csv, line 8: image: images/gone.jpg is not in .*{where}; correct it'):
        opened(table, backend_args=backend_args)
    table.write_text(table.read_text().replace('images/gone.jpg,gone\n', ''))
    assert len(opened(table, backend_args=backend_args)) == 6
    with pytest.raises(Mistake, match='masks/SYN_0000003_segmentation.png is not in'):
        opened(table, backend_args=backend_args, partial_labels=False)


def test_damaged_members_are_named(table):
    backend_args = stored_in_tars(table.parent)
    shard = table.parent / 'shards' / '0001.tar'
    with tarfile.open(shard) as archive:
        start = archive.getmember('./images/SYN_0000001.jpg').offset_data
    with shard.open('r+b') as file:
        file.seek(start)
        file.write(bytes(200))
    faults = [*files_at_fault([opened(table, backend_args=backend_args)])]
    assert len(faults) == 1
    assert 'images/SYN_0000001.jpg: not an image that can be read' in faults[0]


def test_a_shard_that_changes_is_read_again(table):
    backend_args = stored_in_tars(table.parent)
    found = opened(table, backend_args=backend_args)
    assert len(found) == 6
    with tarfile.open(table.parent / 'shards' / '0009.tar', 'w') as archive:
        archive.add(found.csv, 'images/SYN_0000000.jpg')
    with pytest.raises(Mistake, match='two members are named images/SYN_0000000.jpg; make the names unique'):
        opened(table, backend_args={**backend_args, 'path': f'{backend_args["path"]}/*.tar'})


@pytest.mark.parametrize(
    ('backend_args', 'message'),
    [
        (dict(backend='tar', path='nowhere/*.tar'), r'nowhere/\*.tar: no tar file is there'),
        (dict(backend='lmdb', db_path='nowhere.lmdb'), 'nowhere.lmdb: not there; correct db_path'),
        (dict(backend='lmdb', db_path='.'), r'No such file or directory; give dict\(backend=.lmdb., db_path=...\)'),
        (dict(backend='lmdb', db_path=__file__), 'test_storage.py: Not a directory'),
        (dict(backend='lmdb'), "backend_args=.*: give the database's folder"),
        (dict(backend='lmbd', db_path='.'), r"backend_args=.*lmbd.*; give dict\(backend='lmdb', db_path=...\)"),
        (dict(backend='tar'), "backend_args=.*'path'"),
    ],
)
def test_a_mistake_in_the_line_is_answered(table, backend_args, message):
    with pytest.raises((Mistake, MissingFile), match=message):
        opened(table, backend_args=backend_args)


def test_a_compressed_shard_is_refused(table):
    backend_args = stored_in_tars(table.parent)
    shard = table.parent / 'shards' / '0002.tar'
    shard.write_bytes(gzip.compress(shard.read_bytes()))
    with pytest.raises(Mistake, match='0002.tar: compressed, damaged, or not a tar file'):
        opened(table, backend_args=backend_args)


def test_a_damaged_database_is_refused_by_name(table):
    args = stored_in_lmdb(table.parent)
    file = table.parent / 'all.lmdb' / 'data.mdb'
    whole = file.read_bytes()
    for number, size in enumerate((len(whole) // 2, 9000, 5000, 100, 0)):  # of the first page that lacks, LMDB dies
        (table.parent / str(number)).mkdir()
        (table.parent / str(number) / 'data.mdb').write_bytes(whole[:size])
        with pytest.raises(Mistake, match=rf'set/{number}.*(truncated; copy it again|; give dict)'):
            opened(table, backend_args={**args, 'db_path': str(table.parent / str(number))})


def test_what_a_backend_raises_names_the_image(table):
    with pytest.raises(Mistake, match='images/SYN_0000000: cannot be read from http'):
        opened(table, backend_args=dict(backend='http'))[0]  # a name that is no address


def test_keys_of_a_database_that_are_no_text_are_passed_over(table):
    args = stored_in_lmdb(table.parent)
    with lmdb.open(args['db_path'], map_size=2**22) as environment, environment.begin(write=True) as transaction:
        transaction.put(b'\xff\xfe', b'x')
    assert opened(table, backend_args=args)[0]['inputs'].shape == (3, 32, 32)
