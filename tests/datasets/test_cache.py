"""A cache of loaded images: the same samples, written once, and refused when it is out of date."""

import os
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.datasets.cache import write_cache
from mmskin.datasets.csv_dataset import CsvLesionDataset
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.stages import datasets_of
from mmskin.errors import MissingFile, Mistake

PIPELINE = [
    dict(type='LoadImage', size=32, smallest_crop=0.8),
    dict(type='LoadMask'),
    dict(type='RandomWarp', crop=(0.8, 1.0)),
    dict(type='GaussianNoise', prob=1.0),
    dict(type='PackTaskSample'),
]
VALIDATION = [dict(type='LoadImage', size=32), dict(type='LoadMask'), dict(type='ResizeImage'), PIPELINE[-1]]


@pytest.fixture
def table(tmp_path):
    """Nine images of 96 x 128, some without a mask, and masks of three kinds."""
    init_default_scope('mmskin')
    root = tmp_path / 'set'
    SyntheticLesions(seed=5, shape=(96, 128)).write(root, num_train=9, num_val=1, num_test=1)
    lines, masks = ['photo,outline,finding'], root / 'ISIC-2017_Training_Part1_GroundTruth'
    (root / 'maps').mkdir()
    for index, image in enumerate(sorted((root / 'ISIC-2017_Training_Data').glob('*.jpg'))):
        mask = masks / f'{image.stem}_segmentation.png'
        lines.append(f'{image.relative_to(root)},{mask.relative_to(root) if index % 3 else ""},nevus')
        levels = 2 * (cv2.imread(str(mask), cv2.IMREAD_UNCHANGED) > 0)
        cv2.imwrite(str(root / 'maps' / f'{index}.png'), levels.astype(np.uint8))
        lines[-1] += f',maps/{index}.png'
    lines[0] += ',map'
    (root / 'list.csv').write_text('\n'.join(lines) + '\n')
    return root / 'list.csv'


def opened(table, pipeline=PIPELINE, **options):
    masks = dict(gt_kinds='map', gt_pair=('outline', 'outline'))
    metainfo = dict(gt_kinds=('a', 'b'))
    columns = dict(image_column='photo', mask_column='outline', label_column='finding')
    return CsvLesionDataset(table, **columns, masks=masks, metainfo=metainfo, pipeline=pipeline, **options)


def same(one, other):
    """Whether all samples are bitwise the same."""
    for index in range(len(one)):
        first, second = one[index], other[index]
        assert torch.equal(first['inputs'], second['inputs'])
        samples = [sample['data_samples'].to_dict() for sample in (first, second)]
        assert samples[0].keys() == samples[1].keys()
        for key, value in samples[0].items():
            pair = [one['data'] if isinstance(one, dict) and 'data' in one else one for one in (value, samples[1][key])]
            assert torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1], key
    return len(one) == len(other) > 0


@pytest.mark.parametrize('pipeline', [PIPELINE, VALIDATION], ids=['training', 'validation'])
def test_samples_are_the_same_in_every_epoch(table, tmp_path, pipeline):
    plain = opened(table, pipeline, seed=3)
    assert [*write_cache([plain], tmp_path / 'cache')] == ['9 of 9 images']
    cached = opened(table, pipeline, seed=3, cache=tmp_path / 'cache')
    for epoch in (0, 1):
        plain.set_epoch(epoch)
        cached.set_epoch(epoch)
        assert same(plain, cached)
    assert same(plain.get_subset([4, 1]), pickle.loads(pickle.dumps(cached.get_subset([4, 1]))))


def test_an_interrupted_call_goes_on(table, tmp_path):
    plain = opened(table)
    writing = write_cache([plain], tmp_path / 'cache', shard_images=4)
    assert next(writing) == '4 of 9 images'
    writing.close()
    with pytest.raises(MissingFile, match='the cache is not finished; run mmskin cache again to continue'):
        opened(table, cache=tmp_path / 'cache')
    (half,) = (tmp_path / 'cache').rglob('*.arrow')
    half.with_name('000001.part').write_bytes(b'a killed process leaves this')
    made = half.stat().st_mtime_ns
    lines = [*write_cache([plain], tmp_path / 'cache', shard_images=4)]
    assert lines == ['4 of 9 images are there', '8 of 9 images', '9 of 9 images']
    assert half.stat().st_mtime_ns == made
    assert not [*(tmp_path / 'cache').rglob('*.part')]
    assert same(plain, opened(table, cache=tmp_path / 'cache'))
    assert [*write_cache([plain], tmp_path / 'cache')] == ['9 images are up to date']


def test_a_changed_file_is_noticed_and_a_copied_one_is_not(table, tmp_path):
    plain = opened(table)
    [*write_cache([plain], tmp_path / 'cache', shard_images=4)]
    image = plain.get_data_info(5)['img_path']
    os.utime(image, (1, 1))
    assert same(plain, opened(table, cache=tmp_path / 'cache'))
    pixels = cv2.imread(image)
    pixels[0] = 255 - pixels[0]
    cv2.imwrite(image, pixels)
    cached = opened(table, cache=tmp_path / 'cache')
    with pytest.raises(Mistake, match=rf'cache: is stale, {image} has changed since; run mmskin cache again'):
        cached[5]
    assert [*write_cache([opened(table)], tmp_path / 'cache')] == ['5 of 9 images are there', '9 of 9 images']
    assert same(plain, opened(table, cache=tmp_path / 'cache'))
    os.remove(image)
    assert cached.get_data_info(5)['img_path'] == image
    with pytest.raises(MissingFile):
        plain[5]


def test_an_image_without_its_file_comes_from_the_cache(table, tmp_path):
    [*write_cache([opened(table)], tmp_path / 'cache')]
    cached = opened(table, cache=tmp_path / 'cache')
    expected = cached[2]['inputs']
    os.remove(cached.get_data_info(2)['img_path'])
    assert torch.equal(cached[2]['inputs'], expected)


def test_a_mask_that_was_added_since_is_noticed(table, tmp_path):
    [*write_cache([opened(table)], tmp_path / 'cache')]
    lines = table.read_text().splitlines()
    cells = lines[1].split(',')
    cells[1] = lines[2].split(',')[1]
    table.write_text('\n'.join([lines[0], ','.join(cells), *lines[2:]]) + '\n')
    with pytest.raises(Mistake, match=f'is stale, .*{cells[1]} has changed since'):
        opened(table, cache=tmp_path / 'cache')[0]


def test_an_image_that_was_added_since_is_noticed(table, tmp_path):
    [*write_cache([opened(table)], tmp_path / 'cache')]
    photos = table.parent / 'ISIC-2017_Training_Data'
    shutil.copy(photos / 'SYN_0000003.jpg', photos / 'NEW.jpg')
    table.write_text(table.read_text() + 'ISIC-2017_Training_Data/NEW.jpg,,nevus,\n')
    with pytest.raises(Mistake, match='is stale, it lacks 1 of the 10 images, such as NEW; run mmskin cache again'):
        opened(table, cache=tmp_path / 'cache')
    assert [*write_cache([opened(table)], tmp_path / 'cache')] == ['9 of 10 images are there', '10 of 10 images']
    assert len(opened(table, cache=tmp_path / 'cache')) == 10


@pytest.mark.parametrize('name', ['000000.arrow', 'index.arrow'])
@pytest.mark.parametrize('damage', ['bits', 'its end', 'gone'])
def test_a_damaged_cache_is_refused_by_name_and_written_again(table, tmp_path, name, damage):
    plain = opened(table)
    [*write_cache([plain], tmp_path / 'cache')]
    (file,) = (tmp_path / 'cache').rglob(name)
    whole, draw = file.read_bytes(), np.random.default_rng(7)
    for _ in range(8 if damage == 'bits' else 1):
        content = bytearray(whole)
        content[int(draw.integers(len(whole)))] ^= 1 << int(draw.integers(8))
        file.write_bytes(content if damage == 'bits' else whole[: len(whole) // 2])
        if damage == 'gone':
            file.unlink()
        try:
            assert same(plain, opened(table, cache=tmp_path / 'cache'))  # of bits that nothing is read from
        except Mistake as mistake:
            assert f'{name}: is ' in str(mistake)
            assert 'run mmskin cache again, which writes it again' in str(mistake)
        [*write_cache([plain], tmp_path / 'cache')]
        assert file.read_bytes() == whole
        assert same(plain, opened(table, cache=tmp_path / 'cache'))


def test_a_damaged_note_of_a_cache_is_written_again(table, tmp_path):
    [*write_cache([opened(table)], tmp_path / 'cache')]
    (note,) = (tmp_path / 'cache').rglob('cache.json')
    for content in ('', '{}', '[]', '\0'):
        note.write_text(content)
        assert [*write_cache([opened(table)], tmp_path / 'cache')] == ['9 of 9 images are there']
        assert same(opened(table), opened(table, cache=tmp_path / 'cache'))


def test_a_cache_of_other_steps_is_refused(table, tmp_path):
    with pytest.raises(MissingFile, match=r'holds no cache of LoadImage\(.*size=32, smallest_crop=0.8\)'):
        opened(table, cache=tmp_path / 'cache')
    [*write_cache([opened(table)], tmp_path / 'cache')]
    other = [dict(type='LoadImage', size=40), *PIPELINE[1:]]
    with pytest.raises(MissingFile, match=r'size=40.*; there is LoadImage\(.*size=32'):
        opened(table, other, cache=tmp_path / 'cache')


def test_faulty_images_are_named_and_the_others_cached(table, tmp_path):
    plain = opened(table)
    with open(plain.get_data_info(4)['img_path'], 'r+b') as file:
        file.truncate(500)
    with pytest.raises(Mistake, match=r'(?s)SYN_\d*\.jpg: not an image that can be read.*the others are cached'):
        [*write_cache([plain], tmp_path / 'cache')]
    assert [*write_cache([plain.get_subset([0, 1, 2, 3])], tmp_path / 'cache')][-1] == '4 of 4 images'


def test_two_images_of_one_id_are_refused(table, tmp_path):
    shutil.copytree(table.parent, tmp_path / 'other')
    with pytest.raises(Mistake, match='is two images; cache their data sets in two folders'):
        [*write_cache([opened(table), opened(tmp_path / 'other' / 'list.csv')], tmp_path / 'cache')]


def test_the_command_and_its_line_in_a_config(repository, data_root, tmp_path, capsys):
    config, cache = str(repository / 'configs/fpm/r18_synthetic.py'), str(tmp_path / 'cache')
    small = [f'{part}_dataloader.dataset.pipeline.0.size=48' for part in ('train', 'val', 'test')]
    where = ['--data-root', str(data_root), '--cfg-options', *small]
    assert main(['cache', config, cache, '--workers', '0', *where]) == 0
    assert f'train with --cfg-options cache={cache}' in capsys.readouterr().out
    options = {one.partition('=')[0]: 48 for one in small}
    cfg = load_config(config, None, str(data_root), options={**options, 'cache': cache})
    assert [cfg[f'{part}_dataloader'].dataset.cache for part in ('train', 'val', 'test')] == [cache] * 3
    assert [len(dataset) for dataset in datasets_of(cfg)] == [3, 12, 3]
    cfg.test_dataloader.dataset.pop('_scope_', None)
    assert main(['train', config, '--check', *where]) == 0
    assert capsys.readouterr().out.endswith('18 images, 0 with faults\n')


def test_a_check_names_what_is_damaged(repository, tmp_path, capsys):
    SyntheticLesions(seed=5, shape=(48, 64)).write(tmp_path, num_train=3, num_val=2, num_test=2)
    image = tmp_path / 'ISIC-2017_Training_Data' / 'SYN_0000001.jpg'
    image.write_bytes(image.read_bytes()[:400])
    config = str(repository / 'configs/fpm/r18_synthetic.py')
    assert main(['train', config, '--check', '--data-root', str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f'{image}: not an image that can be read' in lines[-2]
    assert lines[-1] == '7 images, 1 with faults'
