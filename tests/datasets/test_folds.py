"""Dealing images into folds: groups stay together, classes are shared out, order does not matter."""

from collections import Counter

import cv2
import numpy as np
import pytest

from mmskin.datasets.folds import assign_folds, check_folds, write_folds
from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.synthetic import SyntheticLesions

SAMPLES = [{'image_id': f'image{number:02}', 'gt_label': number % 3, 'img_path': ''} for number in range(60)]


@pytest.fixture
def table(tmp_path):
    """Groups of four images each: 0, 15, 30, 45 are of one lesion, and so on; and an image from elsewhere."""
    rows = [f'{sample["image_id"]},{number % 15}' for number, sample in enumerate(SAMPLES)]
    (tmp_path / 'groups.csv').write_text('\n'.join(['image_id,group', *rows, 'stranger,3', '']))
    return 'groups.csv'


def test_groups_stay_together_and_classes_are_shared_out(table, tmp_path):
    folds = assign_folds(SAMPLES, 5, [table], folder=tmp_path)
    for number in range(15):
        assert len({folds[f'image{place:02}'] for place in range(number, 60, 15)}) == 1
    classes = Counter((folds[sample['image_id']][0], sample['gt_label']) for sample in SAMPLES)
    assert {*classes.values()} == {4}


def test_classes_of_another_name_are_shared_out():
    samples = [{'image_id': f'{number:02}', 'gt_species': number % 2, 'img_path': ''} for number in range(20)]
    folds = assign_folds(samples, 5, [], target='gt_species')
    assert {*Counter((folds[one['image_id']][0], one['gt_species']) for one in samples).values()} == {2}


def test_order_does_not_matter_and_the_seed_does(table, tmp_path):
    folds = assign_folds(SAMPLES, 5, [table], folder=tmp_path)
    assert folds == assign_folds(SAMPLES[::-1], 5, [table], folder=tmp_path)
    assert folds != assign_folds(SAMPLES, 5, [table], seed=1, folder=tmp_path)


def test_columns_chain_groups_of_a_table(table, tmp_path):
    (tmp_path / 'patients.csv').write_text('photo,patient\nimage00,a\nimage01,a\nimage02,\nimage03,\n')
    patients = dict(csv='patients.csv', column='patient', id_column='photo')
    groups = {
        image_id: group for image_id, (_, group) in assign_folds(SAMPLES, 5, [table, patients], folder=tmp_path).items()
    }
    assert groups['image00'] == groups['image01'] == groups['image16'] == 'image00'
    assert groups['image02'] != groups['image03']


def test_copies_are_found(tmp_path):
    SyntheticLesions(seed=5, shape=(48, 64)).write(tmp_path, num_train=9, num_val=3, num_test=1)
    train, val = (sorted(tmp_path.glob(f'ISIC-2017_{name}_Data/*.jpg')) for name in ('Training', 'Validation'))
    image = cv2.imread(str(train[4]))
    cv2.imwrite(str(val[1]), np.ascontiguousarray(image[:, ::-1]))
    dataset = ISIC2017Dataset(tmp_path, split=('train', 'val'), partial_labels=True)
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    folds = assign_folds(samples, 3)
    assert len(folds) == 12
    assert folds[train[4].stem] == folds[val[1].stem]
    write_folds(tmp_path / 'folds.csv', folds)
    held_out = ISIC2017Dataset(tmp_path, split=('train', 'val'), folds=tmp_path / 'folds.csv', in_folds=[1])
    others = ISIC2017Dataset(tmp_path, split=('train', 'val'), folds=tmp_path / 'folds.csv', in_folds=[0, 2])
    ids = [{data.get_data_info(index)['image_id'] for index in range(len(data))} for data in (held_out, others)]
    assert ids[0] == {image_id for image_id, (fold, _) in folds.items() if fold == 1}
    assert ids[0] | ids[1] == {*folds}
    assert not ids[0] & ids[1]


def test_a_table_from_earlier_is_checked(table, tmp_path):
    folds = assign_folds(SAMPLES, 5, [table], folder=tmp_path)
    write_folds(tmp_path / 'folds.csv', folds)
    check_folds(tmp_path / 'folds.csv', SAMPLES, 5, [table], tmp_path)
    with pytest.raises(ValueError, match=r'folds\.csv: 1 id \(image00\) are in it or in the data'):
        check_folds(tmp_path / 'folds.csv', SAMPLES[1:], 5, [table], tmp_path)
    with pytest.raises(ValueError, match='has 5 folds, and the suite asks for 4'):
        check_folds(tmp_path / 'folds.csv', SAMPLES, 4, [table], tmp_path)
    (tmp_path / 'more.csv').write_text('image_id,group\n' + ''.join(f'image{number:02},x\n' for number in range(15)))
    with pytest.raises(ValueError, match=r'are of one group by more\.csv, and in two folds'):
        check_folds(tmp_path / 'folds.csv', SAMPLES, 5, ['more.csv'], tmp_path)


@pytest.mark.parametrize(
    ('count', 'groups', 'message'),
    [
        (16, 'groups.csv', 'there are 15 groups of images'),
        (5, 'none.csv', r'none\.csv is missing'),
        (5, dict(csv='groups.csv', id_column='group'), 'none of the 60 images is in its column group'),
        (5, dict(table='groups.csv'), 'table is unknown or missing'),
    ],
)
def test_mistakes_are_named(table, tmp_path, count, groups, message):
    with pytest.raises(ValueError, match=message):
        assign_folds(SAMPLES, count, [groups], folder=tmp_path)
