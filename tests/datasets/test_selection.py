"""Mean cosine distances by hand, lists of extra samples, and the tool on planted candidates."""

import csv
import resource
import shutil
from pathlib import Path

import cv2
import forked
import numpy as np
import pytest
import torch
from torch import nn

from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.selection import FeatureOptions, mean_cosine_distance, select_data
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.datasets.tables import read_extra_samples, write_extra_samples
from mmskin.registry import MODELS

TRAIN, VAL = 'ISIC-2017_Training_Data', 'ISIC-2017_Validation_Data'


@MODELS.register_module(force=True)
class MeanColour(nn.Module):
    """A feature network: several maps, the last of which is the image itself."""

    def forward(self, images):
        return images[:, :1], images


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('selection') / 'set'
    SyntheticLesions(seed=1, shape=(40, 56)).write(root, num_train=9, num_val=3, num_test=1)
    return root


@pytest.fixture(scope='module')
def archive(root, tmp_path_factory):
    """Six new lesions, a green image, a broken one, a copy of a validation image, and a training image by name."""
    folder = tmp_path_factory.mktemp('archive')
    SyntheticLesions(seed=7, shape=(40, 56)).write(folder / 'set', num_train=6, num_val=1, num_test=1)
    for path in (folder / 'set' / TRAIN).glob('*.jpg'):
        shutil.copy(path, folder / f'new_{path.name}')
    shutil.rmtree(folder / 'set')
    (folder / 'deeper').mkdir()
    cv2.imwrite(str(folder / 'deeper' / 'green.png'), np.full((30, 30, 3), (40, 200, 40), np.uint8))
    (folder / 'broken.jpg').write_bytes(b'\xff\xd8nothing')
    val, train = (sorted((root / name).glob('*.jpg'))[0] for name in (VAL, TRAIN))
    shutil.copy(val, folder / f'copy{val.suffix}')
    shutil.copy(train, folder)
    return folder


def select(archive, root, out_dir, batch_size=32, **options):
    how = FeatureOptions(size=16, mean=(128,) * 3, std=(64,) * 3, batch_size=batch_size, num_workers=0)
    return select_data(archive, root, out_dir, **{'network': dict(type='MeanColour'), 'options': how, **options})


def test_distance_by_hand():
    references = np.array([[2.0, 0.0], [0.0, 3.0]])
    features = np.array([[1.0, 0.0], [1.0, 1.0], [-5.0, 0.0]])
    np.testing.assert_allclose(mean_cosine_distance(features, references), [0.5, 1 - 2**-0.5, 1.5])


def test_distance_is_the_mean_over_all_pairs():
    rng = np.random.default_rng(0)
    features, references = rng.normal(size=(5, 7)), rng.normal(size=(11, 7))
    pairs = torch.cosine_similarity(torch.tensor(features)[:, None], torch.tensor(references)[None], dim=2)
    np.testing.assert_allclose(mean_cosine_distance(features, references), 1 - pairs.mean(dim=1).numpy())


def test_selects_the_nearest_new_images(archive, root, tmp_path, capsys):
    names = [sample['image_id'] for sample in select(archive, root, tmp_path)]
    assert len(names) == 7
    assert all(name.startswith('new_') for name in names[:-1])
    assert names[-1] == 'green'
    assert 'broken.jpg' in capsys.readouterr().out
    distances = [float(row['distance']) for row in csv.DictReader((tmp_path / 'distances.csv').open())]
    assert len(distances) == 8  # the copy is measured, but not selected
    assert distances == sorted(distances)
    assert (tmp_path / 'histogram.png').stat().st_size > 1000


@MODELS.register_module(force=True)
class WideFeatures(nn.Module):
    """Features of 4 MiB an image; notes what the process holds in RAM (bytes) when it is called."""

    held = []

    def forward(self, images):
        pages = int(Path('/proc/self/statm').read_text().split()[1])
        self.held.append(pages * resource.getpagesize())
        return images.mean(dim=(2, 3)).repeat(1, 2**20 // 3)


@pytest.mark.skipif(not Path('/proc/self/statm').is_file(), reason='asks Linux what the process holds')
def test_features_of_candidates_are_not_held(root, tmp_path):
    for number in range(160):
        cv2.imwrite(str(tmp_path / f'{number:03}.png'), np.full((16, 16, 3), 90 + number, np.uint8))
    network = dict(type='WideFeatures')
    [_] = select(tmp_path, root, tmp_path / 'out', network=network, batch_size=4, count=1)
    candidates = WideFeatures.held[-40:]
    assert candidates[-1] - candidates[4] < 2**27  # what is in between has 2**29 bytes


def test_count_and_threshold(archive, root, tmp_path):
    everything = select(archive, root, tmp_path)
    assert select(archive, root, tmp_path, count=2) == everything[:2]
    between = everything[2]['distance'] + 1e-5
    assert select(archive, root, tmp_path, threshold=between) == everything[:3]
    assert select(archive, root, tmp_path, threshold=-1) == []


def test_nothing_to_choose_from(root, tmp_path):
    with pytest.raises(ValueError, match='none of which is new'):
        select(root / TRAIN, root, tmp_path)


@pytest.mark.parametrize(
    ('mistake', 'message'),
    [
        (dict(labels='nowhere.csv'), "nowhere.csv is missing; name the table with candidates' diagnoses"),
        (dict(masks='nowhere'), "nowhere is not a folder; name the one with candidates' masks"),
        (dict(count=-1), 'count=-1: give how many'),
    ],
)
def test_mistakes_are_said_before_an_image_is_read(tmp_path, mistake, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        select('no archive', 'no data', tmp_path, **mistake)


@pytest.mark.parametrize('mistake', [dict(size=0), dict(batch_size=0), dict(num_workers=-1)], ids=str)
def test_senseless_numbers(mistake):
    [(name, value)] = mistake.items()
    with pytest.raises(ValueError, match=f'{name}={value}.*: give'):
        FeatureOptions(**mistake)


def test_images_are_normalised_as_for_imagenet_if_nothing_else_is_said(archive, root, tmp_path):
    imagenet = FeatureOptions(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    unsaid, said = (select(archive, root, tmp_path, options=options) for options in (None, imagenet))
    assert unsaid == said


def test_dataset_takes_the_list(archive, root, tmp_path):
    labels = tmp_path / 'labels.csv'
    labels.write_text('image_id,melanoma,seborrheic_keratosis\nnew_SYN_0000000,0,1\n')
    samples = select(archive, root, tmp_path, count=6, labels=labels)
    assert [sample['gt_label'] for sample in samples].count(2) == sum('0000000' in s['image_id'] for s in samples) == 1
    with pytest.raises(ValueError, match=r'selected.csv, line 2: img_path: .* allow it with outside_data_root=True'):
        ISIC2017Dataset(root, 'train', extra=tmp_path / 'selected.csv')
    dataset = ISIC2017Dataset(root, 'train', extra=tmp_path / 'selected.csv', outside_data_root=True)
    assert len(dataset) == 9 + 6
    extra = {info['image_id']: info for info in map(dataset.get_data_info, range(9, 15))}
    assert extra.pop('new_SYN_0000000')['gt_label'] == 2
    assert all('gt_label' not in info and 'seg_map_path' not in info for info in extra.values())


def test_list_round_trip(tmp_path):
    samples = [
        dict(image_id='a', img_path='/images/a.jpg', seg_map_path='/masks/a.png', gt_label=0),
        dict(image_id='b', img_path='/images/b.jpg', gt_label=1),
        dict(image_id='c', img_path='/images/c.jpg'),
    ]
    write_extra_samples(tmp_path / 'list.csv', samples)
    assert read_extra_samples(tmp_path / 'list.csv') == samples


@pytest.mark.parametrize(
    ('changed', 'fault'),
    [
        (dict(image_id='../../x'), 'the image id .* is a path'),
        (dict(img_path='../a.jpg'), 'img_path: ../a.jpg is outside'),
        (dict(seg_map_path='/masks/a.png'), 'seg_map_path: /masks/a.png is outside'),
    ],
)
def test_a_list_leads_out_of_no_folder(root, tmp_path, changed, fault):
    write_extra_samples(tmp_path / 'list.csv', [dict(image_id='a', img_path='a.jpg', **{'gt_label': 0}) | changed])
    with pytest.raises(ValueError, match=f'list.csv, line 2: {fault}'):
        ISIC2017Dataset(root, 'train', extra=tmp_path / 'list.csv')


def test_paths_of_a_list_are_relative_to_it(tmp_path):
    (tmp_path / 'list.csv').write_text(
        'image_id,melanoma,seborrheic_keratosis,img_path,seg_map_path\na,1,0,images/a.jpg,\n'
    )
    [sample] = read_extra_samples(tmp_path / 'list.csv')
    assert sample == dict(image_id='a', img_path=str(tmp_path / 'images/a.jpg'), gt_label=0)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('image_id,melanoma,seborrheic_keratosis,img_path,seg_map_path\na,1,0,,\n', 'line 2: img_path is empty'),
        ('image_id,melanoma,seborrheic_keratosis\na,0,0\n', 'no column img_path, seg_map_path'),
        (
            'image_id,melanoma,seborrheic_keratosis,img_path,seg_map_path\n{train},0,0,a.jpg,\n',
            '1 id .* that the train',
        ),
    ],
)
def test_senseless_lists(root, tmp_path, content, message):
    train = sorted((root / TRAIN).glob('*.jpg'))[0].stem
    (tmp_path / 'list.csv').write_text(content.format(train=train))
    with pytest.raises(ValueError, match=message):
        ISIC2017Dataset(root, 'train', extra=tmp_path / 'list.csv')


def test_only_the_tasks_asked_for(root, tmp_path):
    sample = dict(image_id='a', img_path=f'{root}/a.jpg', seg_map_path=f'{tmp_path}/a.png', gt_label=0)
    write_extra_samples(tmp_path / 'list.csv', [sample])
    info = ISIC2017Dataset(root, 'train', tasks=('seg',), extra=tmp_path / 'list.csv').get_data_info(-1)
    assert 'seg_map_path' in info
    assert 'gt_label' not in info


def test_tool(archive, root, repository, tmp_path):
    words = [repository / 'tools/select_data.py', archive, root, '--count', '3']
    words += ['--network', 'type=VGGChain', 'depth=11', 'weights=None', '--size', '32', '--num-workers', '0']
    output = forked.run(*words, '--out-dir', tmp_path / 'out').stdout
    assert '3 images selected, 0 with a diagnosis' in output
    assert len(read_extra_samples(tmp_path / 'out/selected.csv')) == 3
