"""Streams of tar shards: which samples come, in which order, and what is refused."""

import gzip
import io
import json
import shutil
import tarfile
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmskin.cli import main
from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.storage import TarBackend
from mmskin.datasets.tar_stream import StreamLoader, TarStream
from mmskin.engine.checkpoints import DONE, NOTE
from mmskin.errors import Mistake
from mmskin.models.weights import read_weights

CLASSES = ('melanoma', 'nevus', 'seborrheic_keratosis')
PIPELINE = [
    dict(type='LoadImage', size=32, smallest_crop=0.8),
    dict(type='LoadMask'),
    dict(type='RandomWarp'),
    dict(type='PackTaskSample'),
]


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope='module')
def shards(data_root):
    """The validation images of the synthetic set in four shards, the last one compressed, and one without a mask."""
    init_default_scope('mmskin')
    plain = ISIC2017Dataset(data_root, split='val')
    folder = data_root / 'shards'
    folder.mkdir()
    for number in range(4):
        with tarfile.open(folder / f'{number}.tar{".gz" * (number == 3)}', 'w:gz' if number == 3 else 'w') as archive:
            for index in range(number, len(plain), 4):
                info = plain.get_data_info(index)
                name, label = f'./{info["image_id"]}', CLASSES[info['gt_label']]
                with open(info['img_path'], 'rb') as file:
                    add(archive, f'{name}.jpg', file.read())
                if index:
                    with open(info['seg_map_path'], 'rb') as file:
                        add(archive, f'{name}.mask.png', file.read())
                add(archive, f'{name}.cls', label.encode())
                add(archive, f'{name}.json', json.dumps({'diagnosis': label, 'age': index}).encode())
    return folder


def stream(shards, **options):
    return TarStream(shards, PIPELINE, metainfo=dict(classes=CLASSES), **options)


def ids(samples):
    return [one['data_samples'].image_id for one in samples]


def batches(loader, count):
    return [[ids([one]) + [one['inputs']] for one in batch] for batch in islice(loader, count)]


def same(some, others):
    return all(
        one[0] == other[0] and torch.equal(one[1], other[1])
        for batch, like in zip(some, others, strict=True)
        for one, other in zip(batch, like, strict=True)
    )


def test_each_pass_has_every_sample_once_as_the_files_have_it(shards, data_root):
    plain = {
        one.image_id: one
        for one in (s['data_samples'] for s in ISIC2017Dataset(data_root, split='val', pipeline=PIPELINE))
    }
    found = [*islice(stream(shards, columns=dict(gt_age='age')), 3 * len(plain))]
    passes = [found[start : start + len(plain)] for start in range(0, len(found), len(plain))]
    assert all(sorted(ids(one)) == sorted(plain) for one in passes)
    assert len({tuple(ids(one)) for one in passes}) == 3
    first = {one['data_samples'].image_id: one['data_samples'] for one in passes[0]}
    for number, (image_id, sample) in enumerate(sorted(first.items())):
        assert sample.gt_label == plain[image_id].gt_label
        assert ('gt_sem_seg' in sample) == (number > 0)
        assert sample.ori_shape == plain[image_id].ori_shape
    again = {one['data_samples'].image_id: one['inputs'] for one in passes[1]}
    assert not all(torch.equal(one['inputs'], again[one['data_samples'].image_id]) for one in passes[0])
    assert ids(islice(stream(shards, seed=1), 12)) != ids(passes[0])
    by_key = islice(stream(shards, label='diagnosis'), len(plain))
    assert {s['data_samples'].image_id: s['data_samples'].gt_label for s in by_key} == {
        k: v.gt_label for k, v in first.items()
    }


def test_processes_and_workers_share_the_shards_and_a_resume_goes_on(shards):
    def loaded(rank):
        torch.distributed.init_process_group('fake', rank=rank, world_size=2, store=FakeStore())
        try:
            return StreamLoader(stream(shards), batch_size=2, num_workers=2, collate_fn=list)
        finally:
            torch.distributed.destroy_process_group()

    found = []
    for rank in range(2):
        straight = batches(loaded(rank), 6)
        resumed = loaded(rank)
        resumed.sampler.skip(2 * 2)
        assert same(batches(resumed, 4), straight[2:])
        found += [one[0] for batch in straight[:2] for one in batch]
    assert len(found) == len({*found}) == 8


def test_a_training_by_iterations_resumes(shards, data_root, repository, tmp_path, capsys):
    config = str(repository / 'configs/multitask/stream_r18_synthetic.py')
    options = ['train_dataloader.num_workers=0', 'train_dataloader.batch_size=2', 'val_dataloader.num_workers=0']
    options += ['val_dataloader.persistent_workers=False', 'default_hooks.checkpoint.interval=1']
    options += [f'{part}_dataloader.dataset.pipeline.0.size=48' for part in ('train', 'val', 'test')]
    options += ['default_hooks.logger.interval=2', 'default_hooks.visualization.num_images=1']
    arguments = ['train', config, '--data-root', str(data_root)]

    options += ['default_hooks.checkpoint.max_keep_ckpts=-1', 'train_cfg.max_iters=4']
    straight, killed = tmp_path / 'straight', tmp_path / 'killed'
    assert main([*arguments, '--work-dir', str(straight), '--cfg-options', *options]) == 0
    shutil.copytree(straight, killed)
    for name in ('iter_3.pth', 'iter_4.pth', DONE):
        (killed / name).unlink()
    (killed / NOTE).write_text(str(killed / 'iter_2.pth'))
    assert main([*arguments, '--work-dir', str(killed), '--resume', '--cfg-options', *options]) == 0
    expected, found = (read_weights(folder / 'iter_4.pth') for folder in (straight, killed))
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    'change',
    [
        'train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)',
        "train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)",
        'val_dataloader = train_dataloader',
    ],
)
def test_what_needs_a_length_is_refused(shards, data_root, tmp_path, capsys, change):
    base = 'from mmskin.configs.multitask.stream_r18_synthetic import *\n'
    lines = ['from mmengine.config import read_base', f'with read_base():\n    {base}', change]
    (tmp_path / 'config.py').write_text('\n'.join([*lines, 'train_dataloader.num_workers = 0\n']))
    assert main(['train', str(tmp_path / 'config.py'), '--data-root', str(data_root), '--dry-run']) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if 'error' in one]
    assert 'a stream has no length: train by iterations, train_cfg=dict(by_epoch=False, max_iters=...)' in line


def test_what_is_wrong_is_said(shards, tmp_path):
    with pytest.raises(FileNotFoundError, match='no tar file is there'):
        stream(tmp_path)
    with pytest.raises(Mistake, match=r'4 shards for 5 readers \(1 processes, num_workers=5\)'):
        StreamLoader(stream(shards), num_workers=5)
    with pytest.raises(Mistake, match='a stream has no length'):
        len(stream(shards))
    image = cv2.imencode('.png', np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    for name, content, message in (
        ('7.cls', b'nevus', r'one.tar/7: has no image'),
        ('7.json', b'[1]', r'one.tar/7.json: holds no object'),
        ('7.json', b'{', r'one.tar/7: its json or cls is damaged'),
        ('7.cls', b'mole', r"one.tar/7: cls is 'mole', and gt_label is one of melanoma"),
        ('7.jpg', b'junk', r'one.tar/7.jpg: not an image'),
    ):
        with tarfile.open(tmp_path / 'one.tar', 'w') as archive:
            if name in ('7.json', '7.cls') and 'no image' not in message:
                add(archive, '7.png', image)
            add(archive, name, content)
        with pytest.raises(Mistake, match=message):
            next(iter(stream(tmp_path)))


IMAGE = cv2.imencode('.png', np.zeros((48, 64, 3), np.uint8))[1].tobytes()
MASK = cv2.imencode('.png', np.zeros((48, 64), np.uint8))[1].tobytes()


def link(archive, name, target, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    archive.addfile(member)


@pytest.mark.parametrize(
    ('members', 'message'),
    [
        ([('7.png', IMAGE), ('7.jpg', IMAGE)], r'7: has several images \(png, jpg\)'),
        ([('7.png', IMAGE), ('7.cls', b'nevus'), ('7.CLS', b'melanoma')], '7.CLS is there twice'),
        (
            [('7.png', IMAGE), ('7.cls', b'nevus'), ('7.json', b'{"cls": "melanoma"}')],
            "says 'nevus', and its json 'mel",
        ),
        ([('7.png', IMAGE), ('7.cls', b'3')], "cls is '3', and gt_label is one of"),
        ([('7.png', IMAGE), ('7.json', b'[' * 100_000)], 'its json or cls is damaged'),
        ([('7.png', IMAGE), ('7.mask.png', ('8.mask.png', tarfile.LNKTYPE))], '7.mask.png is a link'),
        ([('7.png', IMAGE), ('7.mask.png', ('/etc/passwd', tarfile.SYMTYPE))], '7.mask.png is a link'),
    ],
)
def test_a_sample_that_is_not_one_is_refused(tmp_path, members, message):
    with tarfile.open(tmp_path / 'one.tar', 'w') as archive:
        for name, content in members:
            add(archive, name, content) if isinstance(content, bytes) else link(archive, name, *content)
    with pytest.raises(Mistake, match=message):
        next(iter(stream(tmp_path)))


def test_names_in_capitals_are_read_and_names_that_nothing_reads_are_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(MMLogger.get_current_instance(), 'handlers', [caplog.handler])
    with tarfile.open(tmp_path / 'one.tar', 'w') as archive:
        for name, content in (('7.PNG', IMAGE), ('7.Mask.png', MASK), ('7.CLS', b'nevus'), ('8.png', IMAGE)):
            add(archive, name, content)
    found = [one['data_samples'] for one in islice(stream(tmp_path, shuffle=1), 3)]
    assert ids(islice(stream(tmp_path, shuffle=1), 2)) == ['7', '8']
    assert 'gt_sem_seg' in found[0] and found[0].gt_label == 1
    assert 'none of the first' not in caplog.text
    with tarfile.open(tmp_path / 'one.tar', 'w') as archive:
        for name, content in (('7.png', IMAGE), ('7.seg.png', MASK), ('7.json', b'{"diagnosis": "nevus"}')):
            add(archive, name, content)
    [*islice(stream(tmp_path, columns=dict(gt_age='age')), 3)]
    (line,) = {one for one in caplog.messages if 'none of the first' in one}
    assert 'none of the first 1 samples has cls, age, mask.png; not read are json: diagnosis, seg.png' in line


@pytest.mark.parametrize('kind', ['stream', 'backend'])
def test_a_shard_that_is_not_whole_is_refused(tmp_path, kind):
    """tarfile takes a damaged or missing head for the end, and would leave out what comes after it."""
    shard = tmp_path / 'one.tar'
    with tarfile.open(shard, 'w') as archive:
        for number in range(4):
            add(archive, f'{number}.png', IMAGE)
    whole = shard.read_bytes()
    second = 512 + -(-len(IMAGE) // 512) * 512
    cut = [whole[:second], whole[: second + 100], whole[: second + 512], whole[: 2 * second]]
    flipped = whole[: second + 5] + bytes([whole[second + 5] ^ 1]) + whole[second + 6 :]
    zeroed = whole[:second] + bytes(512) + whole[second + 512 :]
    negative = bytearray(whole)
    negative[second + 124 : second + 136] = b'\xff' * 10 + b'\xfe\0'
    negative[second + 148 : second + 156] = b' ' * 8
    negative[second + 148 : second + 156] = b'%06o\0 ' % sum(negative[second : second + 512])
    for data in (*cut, flipped, zeroed, whole + whole, bytes(negative), b'no tar' + whole, b''):
        shard.write_bytes(data)
        with pytest.raises(Mistake, match='damaged, or not a tar file|has data after its end'):
            [*islice(stream(tmp_path), 5)] if kind == 'stream' else TarBackend(tmp_path)


def test_compressed_shards_are_checked_by_their_checksums(shards, tmp_path):
    whole = (shards / '0.tar').read_bytes()
    count = len(ids(islice(stream(shards / '0.tar'), 3)))
    shard = tmp_path / 'one.tar.gz'
    shard.write_bytes(gzip.compress(whole[:5000]) + gzip.compress(whole[5000:]))  # as parallel tools write it
    assert ids(islice(stream(tmp_path), count)) == ids(islice(stream(shards / '0.tar'), count))
    packed = gzip.compress(whole)
    shard.write_bytes(packed[:-8] + b'0000' + packed[-4:])
    with pytest.raises(Mistake, match='CRC check failed'):
        [*islice(stream(tmp_path), 99)]


def test_a_member_that_would_fill_memory_is_refused(tmp_path):
    head = tarfile.TarInfo('7.png')
    head.size = 1 << 40
    (tmp_path / 'one.tar').write_bytes(head.tobuf())
    with pytest.raises(Mistake, match=r'7.png has 1099511627776 bytes, more than an image takes'):
        next(iter(stream(tmp_path)))
