import re

import cv2
import numpy as np
import pytest

from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.registry import DATASETS

TRAIN = 'ISIC-2017_Training'
LOADING = [{'type': 'LoadImage', 'size': 32}, {'type': 'LoadMask'}, {'type': 'PackTaskSample'}]
HEADER = 'image_id,melanoma,seborrheic_keratosis\n'


def table(root):
    return root / f'{TRAIN}_Part3_GroundTruth.csv'


def image(root, index=0):
    return root / f'{TRAIN}_Data' / f'SYN_0{index:06d}.jpg'


def mask(root, index=0):
    return root / f'{TRAIN}_Part1_GroundTruth' / f'SYN_0{index:06d}_segmentation.png'


def edit_table(root, old, new):
    text = table(root).read_text()
    assert old in text
    table(root).write_text(text.replace(old, new, 1))


def test_samples_carry_image_mask_and_label(root):
    dataset = DATASETS.build({'type': 'ISIC2017Dataset', 'data_root': str(root), 'pipeline': LOADING})
    assert len(dataset) == 6
    assert dataset.metainfo['classes'] == ('melanoma', 'nevus', 'seborrheic_keratosis')
    packed = dataset[1]
    sample = packed['data_samples']
    assert packed['inputs'].shape == (3, 48, 64)
    assert sample.gt_label.tolist() == [1]
    assert sample.gt_sem_seg.data.shape == (1, 48, 64)
    assert sample.gt_sem_seg.data.unique().tolist() == [0, 1]
    assert (sample.image_id, sample.ori_shape, sample.img_shape) == ('SYN_0000001', (48, 64), (48, 64))
    assert sample.img_path == str(image(root, 1))


@pytest.mark.parametrize(('split', 'count'), [('train', 6), ('val', 3), ('test', 3)])
def test_each_split_reads_its_folder(root, split, count):
    assert len(ISIC2017Dataset(root, split)) == count


def test_labels_follow_the_table(root):
    dataset = ISIC2017Dataset(root)
    assert [dataset.get_cat_ids(index) for index in range(6)] == [[0], [1], [2], [0], [1], [2]]


@pytest.mark.parametrize(('tasks', 'missing'), [(('cls',), 'seg_map_path'), (('seg',), 'gt_label')])
def test_a_task_left_out_is_not_read(root, tasks, missing):
    dataset = ISIC2017Dataset(root, tasks=tasks)
    assert missing not in dataset.get_data_info(0)
    assert len({'seg_map_path', 'gt_label'} & dataset.get_data_info(0).keys()) == 1


def test_other_files_are_passed_over(root):
    (root / f'{TRAIN}_Data' / 'SYN_0000000_superpixels.png').write_bytes(image(root).read_bytes())
    (root / f'{TRAIN}_Part1_GroundTruth' / 'SYN_0000000_superpixels.png').write_bytes(mask(root).read_bytes())
    for junk in ('.DS_Store', '._SYN_0000000.jpg', 'Thumbs.db', 'LICENSE.txt'):
        (root / f'{TRAIN}_Data' / junk).write_text('junk')
    assert len(ISIC2017Dataset(root)) == 6


@pytest.mark.parametrize('ending', ['_Segmentation.png', '_SEGMENTATION.PNG'])
def test_the_suffix_of_masks_in_other_capitals(root, ending):
    """ISIC 2016 has the first."""
    mask(root).rename(mask(root).with_name(f'SYN_0000000{ending}'))
    assert ISIC2017Dataset(root).get_data_info(0)['seg_map_path'].endswith(ending)


def test_masks_of_other_names_are_named(root):
    for path in [*mask(root).parent.iterdir()]:
        path.rename(path.with_name(path.name.replace('_segmentation', '_mask')))
    for partial in (False, True):
        with pytest.raises(ValueError, match=r'such as SYN_0000000_mask\.png, is named <id>_segmentation\.png'):
            ISIC2017Dataset(root, partial_labels=partial)


@pytest.mark.parametrize('name', ['SYN_0000000.JPG', 'SYN_0000000.jpeg', 'SYN_0000000.png'])
def test_image_suffixes(root, name):
    image(root).rename(image(root).with_name(name))
    assert ISIC2017Dataset(root).get_data_info(0)['img_path'].endswith(name)


def test_excluded_ids_are_left_out(root):
    dataset = ISIC2017Dataset(root, exclude=('SYN_0000001',))
    assert [dataset.get_data_info(index)['image_id'][-1] for index in range(5)] == ['0', '2', '3', '4', '5']


def test_an_image_without_a_mask_may_be_left_out(root):
    next(root.glob('ISIC-2017_Training_Part1_GroundTruth/SYN_0000001*')).unlink()
    with pytest.raises(ValueError, match='SYN_0000001'):
        ISIC2017Dataset(root)
    assert len(ISIC2017Dataset(root, exclude=('SYN_0000001',))) == 5


def test_indices_keep_a_subset(root):
    assert len(ISIC2017Dataset(root, indices=2)) == 2


def test_a_table_from_a_spreadsheet_program(root):
    table(root).write_bytes(
        b'\xef\xbb\xbf' + table(root).read_bytes().replace(b'\n', b'\r\n').replace(b'.0', b'') + b'\r\n'
    )
    assert ISIC2017Dataset(root).get_cat_ids(0) == [0]


def test_columns_beside_the_known_ones_are_passed_over(root):
    lines = table(root).read_text().splitlines()
    table(root).write_text('\n'.join(f'{line},x' for line in lines))
    assert ISIC2017Dataset(root).get_cat_ids(0) == [0]


# What is wrong is found when the dataset is loaded; each message names the file and the mend.


@pytest.mark.parametrize(
    ('name', 'mend'),
    [
        (f'{TRAIN}_Data', 'official layout'),
        (f'{TRAIN}_Part1_GroundTruth', 'official layout'),
        (f'{TRAIN}_Part3_GroundTruth.csv', 'leave "cls" out'),
    ],
)
def test_missing_folder_or_table(root, name, mend):
    (root / name).rename(root / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=f'{name} is missing.*{mend}'):
        ISIC2017Dataset(root)


def test_missing_data_root(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.*check data_root'):
        ISIC2017Dataset(tmp_path / 'nowhere')


def test_empty_split(root):
    for path in (root / f'{TRAIN}_Data').iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=f'{TRAIN}_Data holds no image'):
        ISIC2017Dataset(root)


def test_masks_without_images_and_images_without_masks_are_listed(root):
    mask(root, 4).rename(mask(root, 9))
    with pytest.raises(ValueError, match=r'1 id \(SYN_0000009\) in .*Part1_GroundTruth.*1 id \(SYN_0000004\)') as error:
        ISIC2017Dataset(root)
    assert 'partial_labels=True' in str(error.value)


def test_rows_without_images_and_images_without_rows_are_listed(root):
    edit_table(root, 'SYN_0000004', 'SYN_0000009')
    with pytest.raises(ValueError, match=r'SYN_0000009\) in .*Part3_GroundTruth.csv.*SYN_0000004\) with an image'):
        ISIC2017Dataset(root)


def test_long_lists_of_ids_are_cut(root):
    table(root).write_text(HEADER + ''.join(f'MORE_{index:02d},0,0\n' for index in range(15)))
    with pytest.raises(ValueError, match=r'15 ids \(MORE_00, .*, MORE_09, and 5 more\)'):
        ISIC2017Dataset(root)


def test_both_labels_set(root):
    edit_table(root, 'SYN_0000003,1.0,0.0', 'SYN_0000003,1.0,1.0')
    with pytest.raises(ValueError, match='csv, line 5: SYN_0000003 is both.*set one of them to 0'):
        ISIC2017Dataset(root)


@pytest.mark.parametrize('value', ['0.5', 'yes', 'nan', '-1', ''])
def test_a_value_that_is_neither_0_nor_1(root, value):
    edit_table(root, 'SYN_0000003,1.0', f'SYN_0000003,{value}')
    with pytest.raises(ValueError, match=f"line 5: melanoma is '{value}'; write 0 or 1"):
        ISIC2017Dataset(root)


def test_a_cut_off_row(root):
    edit_table(root, 'SYN_0000003,1.0,0.0', 'SYN_0000003,1.0')
    with pytest.raises(ValueError, match='line 5: has 2 cells, and the first line has 3'):
        ISIC2017Dataset(root)


def test_missing_column(root):
    edit_table(root, 'seborrheic_keratosis', 'keratosis')
    with pytest.raises(ValueError, match=r'csv has no column seborrheic_keratosis; its first line has to be'):
        ISIC2017Dataset(root)


def test_id_twice_in_the_table(root):
    edit_table(root, 'SYN_0000003', 'SYN_0000002')
    with pytest.raises(ValueError, match='line 5: the id SYN_0000002 occurs twice'):
        ISIC2017Dataset(root)


def test_two_images_of_one_id(root):
    image(root).with_suffix('.png').write_bytes(mask(root).read_bytes())
    with pytest.raises(ValueError, match=r'_Data holds more than one file for 1 id \(SYN_0000000\)'):
        ISIC2017Dataset(root)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'split': 'training'}, "split='training' is not one of 'train', 'val', 'test'"),
        ({'tasks': ()}, 'give one or both'),
        ({'tasks': ('cls', 'age')}, "tasks=('cls', 'age')"),
        ({'seed': -1}, 'seed=-1'),
        ({'exclude': ('ISIC_1',)}, 'exclude names 1 id (ISIC_1) not in the train split'),
        ({'exclude': [f'SYN_0{index:06d}' for index in range(6)]}, 'exclude leaves no image'),
    ],
)
def test_bad_arguments(root, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ISIC2017Dataset(root, **arguments)


# What is wrong with an image or a mask is found when the sample is loaded.


def test_an_image_that_is_none(root):
    image(root).write_text('<html>404 Not Found</html>')
    with pytest.raises(ValueError, match='SYN_0000000.jpg: not an image that can be read'):
        ISIC2017Dataset(root, pipeline=LOADING)[0]


def test_an_empty_image(root):
    image(root).write_bytes(b'')
    with pytest.raises(ValueError, match='SYN_0000000.jpg: not an image that can be read'):
        ISIC2017Dataset(root, pipeline=LOADING)[0]


@pytest.mark.parametrize('path', [image, mask])
@pytest.mark.parametrize('kept', [0.3, 0.9])
def test_a_truncated_file(root, path, kept):
    data = path(root).read_bytes()
    path(root).write_bytes(data[: int(kept * len(data))])
    with pytest.raises(
        ValueError, match=rf'{path(root).name}: (truncated.*copy it again|not an image that can be read)'
    ):
        ISIC2017Dataset(root, pipeline=LOADING)[0]


def test_an_image_deleted_after_loading_the_dataset(root):
    dataset = ISIC2017Dataset(root, pipeline=LOADING)
    image(root).unlink()
    with pytest.raises(FileNotFoundError, match='SYN_0000000.jpg: no such file'):
        dataset[0]


def test_mask_of_another_size(root):
    cv2.imwrite(str(mask(root)), np.zeros((64, 48), np.uint8))
    with pytest.raises(ValueError, match='segmentation.png is 48x64 pixels and its image .*jpg 64x48'):
        ISIC2017Dataset(root, pipeline=LOADING)[0]


@pytest.mark.parametrize('values', [(0, 128), (0, 1, 255), (0, 254, 255), (7,), (0, 2)])
def test_mask_of_other_values(root, values):
    pixels = np.resize(np.array(values, np.uint8), (48, 64))
    cv2.imwrite(str(mask(root)), pixels)
    with pytest.raises(ValueError, match=f'holds the values {", ".join(map(str, values))}; a mask has 0'):
        ISIC2017Dataset(root, pipeline=LOADING)[0]


@pytest.mark.parametrize('values', [(0, 1), (0, 255), (0,), (1,), (255,)])
def test_masks_of_0_and_1_or_255(root, values):
    cv2.imwrite(str(mask(root)), np.resize(np.array(values, np.uint8), (48, 64)))
    sample = ISIC2017Dataset(root, pipeline=LOADING)[0]['data_samples']
    assert sample.gt_sem_seg.data.unique().tolist() == sorted(value > 0 for value in values)


# partial_labels


def test_partial_labels_allow_missing_masks_rows_and_cells(root):
    mask(root, 0).unlink()
    edit_table(root, 'SYN_0000001,0.0,0.0\n', '')
    edit_table(root, 'SYN_0000002,0.0,1.0', 'SYN_0000002,,')
    dataset = ISIC2017Dataset(root, partial_labels=True, pipeline=LOADING)
    samples = [dataset[index]['data_samples'] for index in range(4)]
    assert ['gt_sem_seg' in sample for sample in samples] == [False, True, True, True]
    assert ['gt_label' in sample for sample in samples] == [True, False, False, True]
    assert dataset.get_cat_ids(1) == []


def test_partial_labels_allow_a_split_without_ground_truth(root):
    table(root).unlink()
    (root / f'{TRAIN}_Part1_GroundTruth').rename(root / 'elsewhere')
    sample = ISIC2017Dataset(root, partial_labels=True, pipeline=LOADING)[0]['data_samples']
    assert 'gt_label' not in sample
    assert 'gt_sem_seg' not in sample


def test_partial_labels_still_need_an_image_for_each_ground_truth(root):
    image(root).unlink()
    with pytest.raises(ValueError, match='SYN_0000000.* but without an image'):
        ISIC2017Dataset(root, partial_labels=True)


def test_an_unlabelled_row_is_an_error_without_partial_labels(root):
    edit_table(root, 'SYN_0000002,0.0,1.0', 'SYN_0000002,,')
    with pytest.raises(ValueError, match='SYN_0000002.*with an image but not'):
        ISIC2017Dataset(root)


# The real data


def test_the_real_training_split(real_data):
    dataset = ISIC2017Dataset(real_data / 'isic2017_256', pipeline=LOADING)
    labels = [dataset.get_cat_ids(index)[0] for index in range(len(dataset))]
    assert np.bincount(labels).tolist() == [374, 1372, 254]
    assert dataset[0]['data_samples'].gt_sem_seg.data.shape == (1, 256, 256)


def test_the_real_images_at_native_size(real_data):
    dataset = ISIC2017Dataset(real_data / 'isic2017_native', 'val', pipeline=LOADING)
    packed = dataset[0]
    assert packed['data_samples'].ori_shape == (2016, 3024)
    assert packed['data_samples'].gt_sem_seg.data.shape == (1, 2016, 3024)
    assert packed['inputs'].shape == (3, 252, 378)
