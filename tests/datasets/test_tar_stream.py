"""Streams of tar shards: which samples come, in which order, and what is refused."""

import io
import json
import shutil
import tarfile
from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmskin.cli import main
from mmskin.datasets.isic2017 import ISIC2017Dataset
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
    whole = (tmp_path / 'one.tar').read_bytes()
    (tmp_path / 'one.tar').write_bytes(b'no tar' + whole)
    with pytest.raises(Mistake, match='damaged, or no tar file'):
        next(iter(stream(tmp_path)))
