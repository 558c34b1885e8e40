"""Copies planted between splits, and the real ones of ISIC-2017."""

import csv
import shutil

import cv2
import forked
import numpy as np
import pytest

from mmskin.datasets.duplicates import THRESHOLD, detail, find_pairs, nearest, read_splits
from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.synthetic import SyntheticLesions

TRAIN, VAL = 'ISIC-2017_Training_Data', 'ISIC-2017_Validation_Data'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A set with an exact copy, a recoloured, mirrored and resized one, and strangers."""
    root = tmp_path_factory.mktemp('leaky') / 'set'
    SyntheticLesions(seed=1, shape=(96, 128)).write(root, num_train=9, num_val=6, num_test=1)
    train = sorted((root / TRAIN).glob('*.jpg'))
    val = sorted((root / VAL).glob('*.jpg'))
    shutil.copy(train[0], val[0])
    image = cv2.imread(str(train[1]))
    other = cv2.resize((image * (0.9, 0.7, 0.8)).astype(np.uint8)[:, ::-1], (80, 70), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(val[1]), other)
    return root


def stems(pairs):
    return {(pair.kind, pair.one.path.stem[-3:], pair.other.path.stem[-3:]) for pair in pairs}


def test_finds_the_copies_alone(root):
    assert stems(find_pairs(read_splits(root, ['train', 'val']))) == {('exact', '000', '000'), ('near', '001', '001')}


def test_exact_copies_need_no_threshold(root):
    assert stems(find_pairs(read_splits(root, ['train', 'val']), threshold=-1)) == {('exact', '000', '000')}


def test_one_split_cannot_be_compared(root):
    with pytest.raises(ValueError, match='two'):
        read_splits(root, ['val'])


def test_a_blank_image_is_like_no_other():
    assert detail(np.full((40, 40, 3), 7, np.uint8)) @ detail(np.full((40, 40, 3), 200, np.uint8)) == 0


def test_tool(root, repository, tmp_path):
    words = [repository / 'tools/find_duplicates.py', root, '--splits', 'train', 'val']
    words += ['--out', tmp_path / 'pairs.csv', '--sheet', tmp_path / 'pairs.png']
    output = forked.run(*words).stdout
    rows = list(csv.DictReader((tmp_path / 'pairs.csv').open()))
    assert [row['kind'] for row in rows] == ['exact', 'near']
    exclude = output.strip().rpartition('train_dataloader.dataset.exclude=[')[2].rstrip(']"').split(',')
    assert len(ISIC2017Dataset(root, 'train', exclude=exclude)) == 9 - 2
    assert (tmp_path / 'pairs.png').stat().st_size > 1000
    table = root / 'ISIC-2017_Training_Part3_GroundTruth.csv'
    before = table.read_bytes()
    refused = forked.run(*words[:2], '--out', table)
    assert refused.returncode == 2 and f'{table.name} is in the data folder' in refused.stderr
    assert table.read_bytes() == before


@pytest.mark.long
def test_the_leaks_of_isic2017(real_data):
    """The exact copy, and three images that were published twice in other colours."""
    pairs = find_pairs(read_splits(real_data / 'isic2017_256'))
    assert [(pair.kind, pair.one.path.stem, pair.other.path.stem) for pair in pairs] == [
        ('exact', 'ISIC_0012970', 'ISIC_0012127'),
        ('near', 'ISIC_0000171', 'ISIC_0015124'),
        ('near', 'ISIC_0000215', 'ISIC_0015313'),
        ('near', 'ISIC_0000157', 'ISIC_0014946'),
    ]


def crop(percent):
    """Keep the middle of an image."""

    def change(image):
        kept = [slice(round(side * (100 - percent) / 200), round(side * (100 + percent) / 200)) for side in image.shape]
        return image[kept[0], kept[1]]

    return change


def turn(degrees):
    def change(image):
        height, width = image.shape[:2]
        rotation = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(image, rotation, (width, height), borderMode=cv2.BORDER_REFLECT)

    return change


def recompressed(image):
    return cv2.imdecode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR)


def brighter(factor):
    return lambda image: np.clip(image * factor, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ('change', 'fewest', 'most'),
    [
        pytest.param(crop(99), 50, 50, id='crop of 99 %'),
        pytest.param(crop(98), 49, 50, id='crop of 98 %'),
        pytest.param(crop(97), 45, 49, id='crop of 97 %'),
        pytest.param(crop(95), 22, 32, id='crop of 95 %'),
        pytest.param(crop(90), 0, 6, id='crop of 90 %'),
        pytest.param(turn(1), 49, 50, id='turn by 1 degree'),
        pytest.param(turn(2), 46, 50, id='turn by 2 degrees'),
        pytest.param(turn(3), 38, 44, id='turn by 3 degrees'),
        pytest.param(turn(5), 5, 13, id='turn by 5 degrees'),
        pytest.param(recompressed, 50, 50, id='JPEG of quality 50'),
        pytest.param(brighter(0.7), 50, 50, id='darker'),
        pytest.param(brighter(1.3), 50, 50, id='brighter'),
    ],
)
def test_how_many_near_copies_of_50_real_images_are_found(real_data, change, fewest, most):
    """The figures of docs/data.md, with some room for other versions of OpenCV."""
    paths = sorted((real_data / 'isic2017_256' / VAL).glob('*.jpg'))[::3]
    images = [cv2.imread(str(path)) for path in paths]
    bank = np.stack([detail(image) for image in images])
    distances = 1 - nearest(np.stack([detail(change(image)) for image in images]), bank)
    found = distances <= THRESHOLD
    assert len(images) == 50
    assert fewest <= int(found.diagonal().sum()) <= most
    assert not found[~np.eye(50, dtype=bool)].any()
