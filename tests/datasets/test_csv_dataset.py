"""A table of other columns, names and classes than the challenge's, over the synthetic set's files."""

import csv
import pickle
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import ClassBalancedDataset

from mmskin.config import class_names, set_in_datasets
from mmskin.datasets.csv_dataset import CsvLesionDataset
from mmskin.errors import Mistake
from mmskin.evaluation.classification import ClassificationMetric
from mmskin.registry import DATASETS

LOADING = [{'type': 'LoadImage', 'size': 32}, {'type': 'LoadMask'}, {'type': 'PackTaskSample'}]
NAMES = ('naevus', 'mel', 'naevus', 'bcc', 'mel', 'bcc')
COLUMNS = dict(image_column='photo', mask_column='outline', label_column='finding')
CLASSES = dict(metainfo=dict(classes=('bcc', 'mel', 'naevus')))


@pytest.fixture
def table(root):
    """Write ``list.csv`` beside the images, changed by a function of its rows, and return its path."""

    def write(change=lambda rows: None, delimiter=','):
        rows = [
            dict(
                photo=f'ISIC-2017_Training_Data/SYN_000000{index}.jpg',
                outline=f'ISIC-2017_Training_Part1_GroundTruth/SYN_000000{index}_segmentation.png',
                finding=name,
                part='train' if index < 4 else 'val',
                **{short: int(short == name) for short in ('bcc', 'mel', 'naevus')},
            )
            for index, name in enumerate(NAMES)
        ]
        change(rows)
        with (root / 'list.csv').open('w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return root / 'list.csv'

    return write


def dataset(path, **arguments):
    return CsvLesionDataset(path, **{**COLUMNS, **CLASSES, **arguments})


def labels(found):
    return [found.get_cat_ids(index) for index in range(len(found))]


def test_samples_carry_image_mask_and_label(table, root):
    found = DATASETS.build(dict(type='CsvLesionDataset', csv=str(table()), pipeline=LOADING, **COLUMNS, **CLASSES))
    assert len(found) == 6
    assert found.metainfo['classes'] == ('bcc', 'mel', 'naevus')
    sample = found[1]['data_samples']
    assert sample.gt_label.tolist() == [1]
    assert sample.gt_sem_seg.data.shape == (1, 48, 64)
    assert sample.image_id == 'SYN_0000001'
    assert sample.img_path == str(root / 'ISIC-2017_Training_Data' / 'SYN_0000001.jpg')


def test_labels_by_name(table):
    assert labels(dataset(table())) == [[2], [1], [2], [0], [1], [0]]


def test_labels_by_columns_in_the_order_of_the_classes(table):
    assert labels(dataset(table(), label_column=('bcc', 'mel', 'naevus'))) == [[2], [1], [2], [0], [1], [0]]
    other = dict(metainfo=dict(classes=('Basal', 'Melanoma', 'Naevus')))
    assert labels(dataset(table(), label_column=('bcc', 'mel', 'naevus'), **other)) == [[2], [1], [2], [0], [1], [0]]


def test_the_classes_are_isic_2017s_by_default(table):
    def rename(rows):
        for row in rows:
            row['finding'] = dict(bcc='seborrheic_keratosis', mel='melanoma', naevus='nevus')[row['finding']]

    assert labels(CsvLesionDataset(table(rename), **COLUMNS)) == [[1], [0], [1], [2], [0], [2]]


@pytest.mark.parametrize('delimiter', [';', '\t', '|'])
def test_delimiters(table, delimiter):
    assert len(dataset(table(delimiter=delimiter), delimiter=delimiter)) == 6


@pytest.mark.parametrize('delimiter', [';', '\t', '|'])
def test_another_delimiter_is_named(table, delimiter):
    with pytest.raises(Mistake, match=re.escape(f'separated by {delimiter!r}; save it with commas')):
        dataset(table(delimiter=delimiter))


@pytest.mark.parametrize('delimiter', ['', ';;'])
def test_a_delimiter_is_one_character(table, delimiter):
    with pytest.raises(ValueError, match=f"the delimiter is '{delimiter}'; it has to be one character"):
        dataset(table(), delimiter=delimiter)


def test_a_table_from_a_spreadsheet_program(table):
    path = table()
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes().replace(b',', b' , '))
    assert labels(dataset(path))[:2] == [[2], [1]]


def test_paths_are_relative_to_the_table_or_to_data_root_or_absolute(table, root, tmp_path, monkeypatch):
    path = table()
    assert len(dataset(path)) == 6
    (root / 'lists').mkdir()
    moved = path.rename(root / 'lists' / 'list.csv')
    with pytest.raises(ValueError, match='is missing'):
        dataset(moved)
    assert len(dataset('lists/list.csv', data_root=root)) == 6
    assert len(dataset(moved, data_root=root)) == 6
    monkeypatch.chdir(root / 'lists')
    absolute = table(lambda rows: [row.update(photo=f'{root}/{row["photo"]}', outline='') for row in rows])
    assert len(dataset(absolute.rename('other.csv').absolute(), data_root=root)) == 6
    assert len(dataset('other.csv', outside_data_root=True)) == 6


@pytest.mark.parametrize('column', ['photo', 'outline'])
def test_files_outside_data_root_are_refused_unless_they_are_asked_for(table, root, tmp_path, column):
    shutil.copy(root / 'ISIC-2017_Training_Data' / 'SYN_0000000.jpg', tmp_path / 'x.jpg')
    for cell in (f'{tmp_path}/x.jpg', '../x.jpg', 'ISIC-2017_Training_Data/../../x.jpg'):
        path = table(lambda rows, cell=cell: rows[1].update({column: cell}))
        with pytest.raises(ValueError) as caught:
            dataset(path)
        assert str(caught.value) == (
            f'{path}, line 3: {column}: {cell} is outside {root}; move the file there, or allow it with '
            'outside_data_root=True'
        )
        assert len(dataset(path, outside_data_root=True)) == 6
    (root / 'linked').symlink_to(tmp_path)  # as many data sets are laid out
    assert len(dataset(table(lambda rows: rows[1].update({column: 'linked/x.jpg'})))) == 6


@pytest.mark.parametrize(
    ('image_id', 'fault'),
    [
        ('../../../x', 'is a path'),
        ('/etc/x', 'is a path'),
        ('a/b', 'is a path'),
        ('..\\x', 'is a path'),
        ('C:x', 'is a path'),
        ('..', 'is nothing but dots'),
        ('.', 'is nothing but dots'),
        ('', 'is empty'),
        ('a\nb', 'has a control character in it'),
        ('x' * 239, 'is too long for the names of its results'),
        ('é' * 120, 'is too long for the names of its results'),
    ],
)
def test_an_id_has_to_be_part_of_a_files_name(table, image_id, fault):
    path = table(lambda rows: [row.update(id=image_id if index == 1 else index) for index, row in enumerate(rows)])
    with pytest.raises(ValueError, match=rf'list.csv, line \d: id: .* {fault}') as caught:
        dataset(path, id_column='id')
    assert '\n' not in str(caught.value)


def test_other_ids_of_a_column_are_taken_as_they_are(table):
    ids = ['a b', 'é', '=1+1', 'a..b', 'x' * 238, 'CON']
    path = table(lambda rows: [row.update(id=ids[index]) for index, row in enumerate(rows)])
    found = dataset(path, id_column='id', pipeline=LOADING)
    assert [found[index]['data_samples'].image_id for index in range(6)] == ids


def test_a_column_left_out_is_not_read(table):
    def empty(rows):
        rows[0].update(finding='anything', outline='nowhere.png')

    found = CsvLesionDataset(table(empty), image_column='photo')
    assert found.get_data_info(0).keys() & {'seg_map_path', 'gt_label'} == set()


def test_empty_cells_are_samples_without_that_ground_truth(table):
    def empty(rows):
        rows[0]['outline'], rows[1]['finding'] = '', ' '

    found = dataset(table(empty), pipeline=LOADING)
    samples = [found[index]['data_samples'] for index in range(3)]
    assert ['gt_sem_seg' in sample for sample in samples] == [False, True, True]
    assert ['gt_label' in sample for sample in samples] == [True, False, True]
    assert found.get_cat_ids(1) == []


def test_empty_columns_of_classes(table):
    def empty(rows):
        rows[1].update(bcc='', mel='', naevus='')

    columns = ('bcc', 'mel', 'naevus')
    assert labels(dataset(table(empty), label_column=columns))[1] == []
    with pytest.raises(ValueError, match='line 3: bcc, mel, naevus is empty'):
        dataset(table(empty), label_column=columns, partial_labels=False)


def test_splits_by_a_column(table):
    path = table()
    sizes = [len(dataset(path, split=split, split_column='part')) for split in ('train', 'val', None)]
    assert sizes == [4, 2, 6]
    with pytest.raises(ValueError, match="list.csv has no row with 'test' as part"):
        dataset(path, split='test', split_column='part')
    with pytest.raises(ValueError, match="list.csv has no row with 'vall' as part"):  # the rows of 'train' are there
        dataset(path, split=['train', 'vall'], split_column='part')
    with pytest.raises(ValueError, match=r'split=\[\] takes no row'):
        dataset(path, split=[], split_column='part')
    with pytest.raises(ValueError, match=r"metainfo: classes=\['mel', 'mel'\]; give a list of names, each once"):
        dataset(path, metainfo=dict(classes=['mel', 'mel']))


def test_ids_by_a_column_and_excluded_ids(table):
    path = table(lambda rows: [row.update(id=f'patient {index}') for index, row in enumerate(rows)])
    found = dataset(path, id_column='id', exclude=['patient 0'])
    assert found.get_data_info(0)['image_id'] == 'patient 1'
    with pytest.raises(ValueError, match=r'exclude names 1 id \(X\) not in .*list.csv'):
        dataset(table(), exclude=['X'])


def test_augmentation_repeats(table):
    steps = [LOADING[0], LOADING[1], dict(type='RandomWarp'), LOADING[2]]
    one, other = (dataset(table(), pipeline=steps, seed=4)[2]['inputs'] for _ in range(2))
    assert one.equal(other)


def test_class_balanced_sampling(table):
    assert len(ClassBalancedDataset(dataset(table()), oversample_thr=0.5)) > 6


def test_settings_of_the_command_line(table, root):
    """--data-root, --split and tools/submit.py's partial_labels."""
    path = table(lambda rows: [row.update(split=row['part']) for row in rows])
    loader = ConfigDict(dataset=dict(type='CsvLesionDataset', csv=path.name, **COLUMNS, **CLASSES))
    for key, value in dict(data_root=str(root), split='val', partial_labels=True).items():
        set_in_datasets(loader, key, value)
    assert len(DATASETS.build(loader.dataset)) == 2
    assert class_names(ConfigDict(test_dataloader=loader)) == ['bcc', 'mel', 'naevus']


def test_metrics_take_the_names(table):
    metric = ClassificationMetric()
    metric.dataset_meta = dataset(table()).metainfo
    metric.process({}, [dict(image_id='a', cls_score=torch.tensor([0.5, 0.25, 0.25]))])
    metric.evaluate(1)
    assert [*metric.per_image[0]] == ['image_id', 'score_bcc', 'score_mel', 'score_naevus']


# What is wrong: each message names the table, the line and the mend.


def change(index, **cells):
    return lambda rows: rows[index].update(cells)


@pytest.mark.parametrize(
    ('spoil', 'arguments', 'message'),
    [
        (change(2, photo='gone.jpg'), {}, 'list.csv, line 4: photo: .*gone.jpg is missing; restore the file'),
        (change(2, outline='gone.png'), {}, 'list.csv, line 4: outline: .*gone.png is missing; restore the file'),
        (change(2, photo='9' * 5000), {}, 'list.csv, line 4: photo: .*999 is missing; restore the file'),
        (change(0, photo=''), {}, 'list.csv, line 2: photo is empty; name a file'),
        (change(0, outline=''), dict(partial_labels=False), 'line 2: outline is empty; .*partial_labels=True'),
        (change(0, finding=''), dict(partial_labels=False), 'line 2: finding is empty; .*partial_labels=True'),
        (change(5, finding='wart'), {}, "line 7: finding is 'wart', and the classes are bcc, mel, naevus; correct it"),
        (change(5, photo='ISIC-2017_Training_Data/SYN_0000000.jpg'), {}, 'line 7: the id SYN_0000000 occurs twice'),
        (change(1, mel=2), dict(label_column=('bcc', 'mel', 'naevus')), "line 3: .*mel is '2'; write 0 or 1"),
        (
            change(1, bcc=1),
            dict(label_column=('bcc', 'mel', 'naevus')),
            'line 3: 2 of the columns bcc, mel, naevus are 1',
        ),
        (
            change(1, mel=0),
            dict(label_column=('bcc', 'mel', 'naevus')),
            'line 3: 0 of the columns bcc, mel, naevus are 1',
        ),
        (change(0), dict(label_column=('bcc', 'mel')), 'are not as many as the classes'),
        (change(0), dict(image_column='picture'), 'list.csv has no column picture; name the columns by image_column'),
        (change(0), dict(delimiter=';'), "has no column photo, outline, finding; .* which is ';'"),
        (change(0), dict(split='train'), 'list.csv has no column split'),
    ],
)
def test_what_is_wrong_is_said_by_line(table, spoil, arguments, message):
    with pytest.raises(ValueError, match=message):
        dataset(table(spoil), **arguments)


def test_wrong_rows_are_listed_together_and_cut(table):
    def spoil(rows):
        rows += [dict(rows[0], photo=f'{index}.jpg') for index in range(12)]

    with pytest.raises(ValueError, match='line 8: .*\n.*line 9: ') as error:
        dataset(table(spoil))
    assert str(error.value).endswith('and 2 more rows')


def test_a_missing_table(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.csv is missing; check csv and data_root'):
        dataset(tmp_path / 'none.csv')


def test_a_table_without_rows(table):
    path = table()
    path.write_text(path.read_text().splitlines()[0])
    with pytest.raises(ValueError, match=re.escape(f'{path} has no row')):
        dataset(path)


def test_a_table_in_another_encoding(table):
    path = table()
    path.write_bytes(path.read_bytes() + 'ä,ö,ü'.encode('latin-1'))
    with pytest.raises(ValueError, match='list.csv is not a UTF-8 table .*save it as CSV in UTF-8'):
        dataset(path)


def test_what_is_wrong_with_a_mask_is_said_when_it_is_loaded(table):
    found = dataset(table(change(0, outline='ISIC-2017_Training_Data/SYN_0000000.jpg')), pipeline=LOADING)
    with pytest.raises(ValueError, match='SYN_0000000.jpg: its channels differ'):
        found[0]


def with_ids(rows):
    for row in rows:
        row['photo'] = row['photo'].removesuffix('.jpg')
        row['outline'] = row['outline'].removesuffix('_segmentation.png')


def test_ids_stand_for_files(table, root):
    photos, outlines = root / 'ISIC-2017_Training_Data', root / 'ISIC-2017_Training_Part1_GroundTruth'
    (photos / 'SYN_0000001.jpg').rename(photos / 'SYN_0000001.JPG')
    (outlines / 'SYN_0000001_segmentation.png').rename(outlines / 'SYN_0000001_Segmentation.png')
    (outlines / 'SYN_0000002_segmentation.png').rename(outlines / 'SYN_0000002.png')
    found = dataset(table(with_ids))
    infos = [found.get_data_info(index) for index in range(3)]
    assert [info['image_id'] for info in infos] == ['SYN_0000000', 'SYN_0000001', 'SYN_0000002']
    assert [info['img_path'][-15:] for info in infos] == ['SYN_0000000.jpg', 'SYN_0000001.JPG', 'SYN_0000002.jpg']
    endings = [info['seg_map_path'].removeprefix(f'{outlines}/SYN_000000') for info in infos]
    assert endings == ['0_segmentation.png', '1_Segmentation.png', '2.png']


def test_an_id_that_stands_for_several_files_or_none_is_named(table, root):
    photos = root / 'ISIC-2017_Training_Data'
    shutil.copy(photos / 'SYN_0000001.jpg', photos / 'SYN_0000001.png')
    (photos / 'SYN_0000002.jpg').unlink()
    with pytest.raises(ValueError, match=r'(?s)line 3: .*SYN_0000001\.jpg or SYN_0000001\.png; .*line 4: .*is missing'):
        dataset(table(with_ids))


def test_an_image_is_not_its_own_mask(table, root):
    def without_masks(rows):
        with_ids(rows)
        for row in rows:
            row['outline'] = row['photo']

    with pytest.raises(ValueError, match='SYN_0000000 is the image itself; name its mask'):
        dataset(table(without_masks))


@pytest.mark.parametrize(
    ('change_text', 'fault'),
    [
        (lambda text: text.rpartition(',')[0], 'line 7: has 3 cells, and the first line has 4'),
        (lambda text: text.replace('naevus', 'naevus,benign', 1), r'line \d: has 5 cells, and the first line has 4'),
        (lambda text: text.replace('naevus', '"naevus', 1), 'is not a UTF-8 table .unexpected end of data'),
        (lambda text: text.replace('naevus', 'naevus\0', 1), 'a NUL in it|line contains NUL'),
        (lambda text: text.replace('note', 'photo', 1), 'has the column photo twice; rename or remove'),
    ],
)
def test_a_table_that_is_cut_off_or_ambiguous_is_named(tmp_path, change_text, fault):
    """None of these may leave a row or a label out without a word."""
    lines = ['photo,outline,diagnosis,note', *(f'{n}.jpg,,naevus,x' for n in range(6))]
    for n in range(6):
        (tmp_path / f'{n}.jpg').touch()
    path = tmp_path / 'list.csv'
    path.write_text(change_text('\n'.join(lines)))
    with pytest.raises(Mistake, match=f'list.csv.*{fault}'):
        CsvLesionDataset(path, 'photo', 'outline', 'diagnosis', metainfo=dict(classes=('naevus',)))


def test_empty_cells_at_a_lines_end_do_not_count(tmp_path):
    """Spreadsheets write more of them, or less."""
    (tmp_path / 'a.jpg').touch()
    (tmp_path / 'b.jpg').touch()
    (tmp_path / 'list.csv').write_text('photo,diagnosis,,\na.jpg,naevus\nb.jpg,naevus,,,,\n')
    found = CsvLesionDataset(tmp_path / 'list.csv', 'photo', None, 'diagnosis', metainfo=dict(classes=('naevus',)))
    assert [found.get_data_info(index)['gt_label'] for index in range(len(found))] == [0, 0]


# Further ground truth, and files by patterns.


FURTHER = [{'type': 'LoadImage', 'size': 32}, {'type': 'LoadMask'}, {'type': 'RandomWarp'}, {'type': 'PackTaskSample'}]
FOLDERS = ('ISIC-2017_Training_Data', 'ISIC-2017_Training_Part1_GroundTruth')


def further(rows):
    """Columns of a second class, two labels, a number, and an id instead of files."""
    for index, row in enumerate(rows):
        row.update(id=f'SYN_000000{index}', sex=('female', 'male', 'unknown')[index % 3], age=5 * index)
        row.update(hair=index % 2, ruler='' if index == 1 else 1)


def test_further_columns_by_field(table):
    columns = dict(gt_sex='sex', gt_signs=('hair', 'ruler'), gt_age='age')
    metainfo = dict(**CLASSES['metainfo'], gt_sex=('female', 'male'))
    found = dataset(table(further), columns=columns, metainfo=metainfo, pipeline=LOADING)
    samples = [found[index]['data_samples'] for index in range(3)]
    assert [sample.get('gt_sex') for sample in samples] == [torch.tensor([0]), torch.tensor([1]), None]
    assert samples[0].gt_sex.dtype == torch.int64
    assert samples[0].gt_signs.tolist() == [0, 1]
    assert samples[1].gt_signs.isnan().tolist() == [False, True]
    assert [sample.gt_age.tolist() for sample in samples] == [[0], [5], [10]]
    assert samples[0].gt_label.tolist() == [2]


def test_one_column_lists_labels(table):
    def change(rows):
        for row, cell in zip(rows, ('hair|ruler', 'ruler', '', 'normal', ' hair | ruler ', 'unknown'), strict=True):
            row['seen'] = cell

    listed = dict(column='seen', separator='|', none='normal')
    metainfo = dict(**CLASSES['metainfo'], gt_signs=('hair', 'ink', 'ruler'))
    found = dataset(table(change), columns=dict(gt_signs=listed), metainfo=metainfo, pipeline=LOADING)
    samples = [found[index]['data_samples'] for index in range(6)]
    told = [sample.gt_signs.tolist() if 'gt_signs' in sample else None for sample in samples]
    assert told == [[1, 0, 1], [0, 0, 1], None, [0, 0, 0], [1, 0, 1], None]
    assert samples[0].gt_signs.dtype == torch.float32
    with pytest.raises(Mistake, match="line 5: seen lists 'normal', .* are hair, ink, ruler; .* or by none='normal'"):
        dataset(table(change), columns=dict(gt_signs={**listed, 'none': ''}), metainfo=metainfo)
    with pytest.raises(Mistake, match=r'name the labels that seen lists: metainfo=dict\(gt_signs=\(...\)\)'):
        dataset(table(change), columns=dict(gt_signs=listed))
    with pytest.raises(Mistake, match=r"columns\['gt_signs'\] is .*; give dict\(column='...', separator='\|'\)"):
        dataset(table(change), columns=dict(gt_signs=dict(column='seen')), metainfo=metainfo)


def test_images_and_masks_by_patterns(table):
    """The first pattern with a file counts; a mask that is not there is unknown, if that is allowed."""
    arguments = dict(
        image=('nowhere/{id}.jpg', f'{FOLDERS[0]}/{{id}}.jpg'), mask=f'{FOLDERS[1]}/{{id}}_segmentation.png'
    )
    path = table(further)
    found = dataset(path, pipeline=LOADING, **arguments)
    assert [found[index]['data_samples'].image_id for index in (0, 5)] == ['SYN_0000000', 'SYN_0000005']
    assert 'gt_sem_seg' in found[0]['data_samples']
    (path.parent / FOLDERS[1] / 'SYN_0000002_segmentation.png').unlink()
    assert 'gt_sem_seg' not in dataset(path, pipeline=LOADING, **arguments)[2]['data_samples']
    with pytest.raises(ValueError, match='SYN_0000002_segmentation.png is missing'):
        dataset(path, partial_labels=False, **arguments).full_init()


def test_every_mask_follows_the_warp(table, root):
    """Masks in one field are channels; a map of classes keeps its numbers. All move as the first one does."""
    (root / 'maps').mkdir()
    for file in (root / FOLDERS[1]).iterdir():
        mask = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(root / 'maps' / f'{file.stem}.png'), np.where(mask > 0, 2, 0).astype(np.uint8))
    single, other = f'{FOLDERS[1]}/{{id}}_segmentation.png', 'maps/{id}_segmentation.png'
    masks = dict(gt_both=(single,) * 5, gt_kinds=other)
    metainfo = dict(**CLASSES['metainfo'], gt_kinds=('a', 'b'))
    sample = dataset(table(further), masks=masks, metainfo=metainfo, pipeline=FURTHER)[1]['data_samples']
    lesion = sample.gt_sem_seg.data
    assert lesion.shape == (1, 32, 32)
    assert 0 < lesion.float().mean() < 1
    assert torch.equal(sample.gt_both.data, lesion.expand(5, 32, 32))
    assert torch.equal(sample.gt_kinds.data, 2 * lesion)


def test_packing_takes_the_keys(table):
    steps = [*LOADING[:2], dict(type='PackTaskSample', keys=('gt_age', 'gt_sem_seg'))]
    sample = dataset(table(further), columns=dict(gt_age='age'), pipeline=steps)[1]['data_samples']
    assert {*sample.keys()} == {'gt_age', 'gt_sem_seg'}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(columns=dict(gt_sex='sex')), r"sex is 'female', .* metainfo=dict\(gt_sex=\('female', ...\)\)"),
        (dict(columns=dict(sex='sex')), 'sex: fields of ground truth begin with gt_; call it gt_sex'),
        (dict(columns=dict(gt_x='weight')), 'no column weight'),
        (dict(image='{nothing}.jpg'), 'no column nothing'),
        (dict(image='../{id}.jpg'), 'is outside'),
        (dict(masks=dict(gt_m=('outline', 'nowhere/{id}.png'))), 'nowhere/{id}.png: no file, but other masks of gt_m'),
    ],
)
def test_mistakes_in_further_columns(table, options, message):
    with pytest.raises(ValueError, match=message):
        dataset(table(further), **options).full_init()


def test_a_column_that_stands_twice_is_refused(table):
    path = table()
    path.write_text(path.read_text().replace('finding', 'photo', 1))
    with pytest.raises(ValueError, match='has the column photo twice; rename or remove one'):
        dataset(path)


# Large tables, which one process of a machine reads for all.


@pytest.fixture
def large(root, tmp_path, monkeypatch):
    """A table of 20,000 rows over the set's six images, and the folder that keeps what is made of it."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    lines = ['id,photo,outline,finding,age,hair,ruler,part']
    for index in range(20_000):
        image, name = index % 6, NAMES[index % 6]
        outline = f'ISIC-2017_Training_Part1_GroundTruth/SYN_000000{image}_segmentation.png' if index % 4 else ''
        age, hair = '' if index % 7 == 0 else index % 90, index % 2
        part = 'train' if index < 19_000 else 'val'
        lines.append(
            f'X_{index:06},ISIC-2017_Training_Data/SYN_000000{image}.jpg,{outline},{name},{age},{hair},,{part}'
        )
    (root / 'large.csv').write_text('\n'.join(lines) + '\n')
    return root / 'large.csv', tmp_path / 'cache'


def open_large(path, **options):
    columns = dict(gt_signs=('hair', 'ruler'), gt_age='age')
    return dataset(path, id_column='id', inputs=dict(age='age'), columns=columns, **options)


def as_lists(info):
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in info.items()}


def test_rows_of_a_large_table_are_made_once(large):
    path, cache = large
    found = open_large(path, split='train', split_column='part', pipeline=LOADING)
    (file,) = cache.rglob('*.arrow')
    made = file.stat().st_mtime_ns
    again = open_large(path, split='train', split_column='part', pipeline=LOADING)
    assert file.stat().st_mtime_ns == made
    assert len(found) == len(again) == 19_000
    for index in (0, 1, 8191, 8192, 18_999, -1):
        assert str(as_lists(found.get_data_info(index))) == str(as_lists(again.get_data_info(index)))
    info = again.get_data_info(17_007)
    assert as_lists({**info, 'gt_signs': info['gt_signs'][:1]}) == dict(
        image_id='X_017007',
        img_path=str(path.parent / 'ISIC-2017_Training_Data/SYN_0000003.jpg'),
        seg_map_path=str(path.parent / 'ISIC-2017_Training_Part1_GroundTruth/SYN_0000003_segmentation.png'),
        gt_label=0,
        gt_signs=[1],
        gt_age=17_007 % 90,
        inputs=dict(age=str(17_007 % 90)),
        inputs_from=dict(age=f'{path}, line 17009: age'),
        sample_idx=17_007,
    )
    assert again.get_data_info(0).keys() & {'seg_map_path', 'gt_age'} == set()
    assert again[17_007]['data_samples'].gt_signs.isnan().tolist() == [False, True]


def test_a_copy_of_a_large_table_is_small(large):
    """For another process, for a subset, and with some ids left out."""
    found = open_large(large[0], exclude=['X_000001'])
    pickled = pickle.dumps(found.get_subset(range(5)))
    assert len(pickled) < 20_000
    assert [pickle.loads(pickled).get_data_info(index)['image_id'] for index in (0, 1, -1)] == [
        'X_000000',
        'X_000002',
        'X_000005',
    ]
    assert [len(found.get_subset(count)) for count in (7, -3)] == [7, 3]
    assert found.get_subset(-3).get_data_info(0)['image_id'] == 'X_019997'


def test_what_changes_is_read_again(large):
    path, cache = large
    assert open_large(path).get_data_info(0)['gt_label'] == 2
    path.write_text(path.read_text().replace('naevus', 'mel', 1))
    assert open_large(path).get_data_info(0)['gt_label'] == 1
    (path.parent / 'ISIC-2017_Training_Data/SYN_0000005.jpg').unlink()
    with pytest.raises(Mistake, match=r'(?s)line 7: photo: .*SYN_0000005.jpg is missing; .* and 3323 more rows|line 7'):
        open_large(path)
    assert len([*cache.rglob('*.arrow')]) == 1
    for file in cache.rglob('*.arrow'):
        file.write_bytes(file.read_bytes()[:1000])  # a disk that was full
    path.write_text(path.read_text().replace('SYN_0000005', 'SYN_0000004'))
    assert len(open_large(path)) == 20_000


@pytest.mark.parametrize('damage', ['a bit', 'its end', 'zeros', 'all of it'])
def test_a_damaged_file_of_rows_is_written_again(large, damage):
    path, cache = large
    names = [open_large(path).get_data_info(index)['image_id'] for index in range(0, 20_000, 99)]
    (file,) = cache.rglob('*.arrow')
    whole, draw = file.read_bytes(), np.random.default_rng(3)
    for _ in range(2):
        place, content = int(draw.integers(len(whole))), bytearray(whole)
        if damage == 'a bit':  # another id, a row outside the file, or another type
            content[place] ^= 1 << int(draw.integers(8))
        elif damage == 'zeros':
            content[place : place + 4096] = bytes(len(content[place : place + 4096]))
        else:
            del content[place if damage == 'its end' else 0 :]
        file.write_bytes(content)
        found = open_large(path)
        assert [found.get_data_info(index)['image_id'] for index in range(0, 20_000, 99)] == names
        assert file.read_bytes() == whole


def test_a_large_table_without_a_place_to_keep_its_rows(large, monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    for place in (tmp_path / 'file', tmp_path / ('x' * 300), '/proc/nowhere'):
        monkeypatch.setenv('XDG_CACHE_HOME', str(place))
        assert len(open_large(large[0])) == 20_000


def test_lines_are_counted_over_cells_that_go_on(table):
    """The number is that of the row's last line, also in a large table."""
    path = table(lambda rows: [row.update(note='a\nb' if index == 1 else '') for index, row in enumerate(rows)])
    path.write_text(path.read_text() + '\n\nnowhere.jpg,,mel,train,0,1,0,\n')
    with pytest.raises(Mistake, match='line 11: photo: .*nowhere.jpg is missing'):
        dataset(path)


def test_folds_of_a_large_table(large, tmp_path):
    path, _ = large
    lines = [f'X_{index:06},{index % 5},g{index}' for index in range(20_000)]
    (tmp_path / 'folds.csv').write_text('\n'.join(['image_id,fold,group', *lines]) + '\n')
    found = open_large(path, folds=tmp_path / 'folds.csv', in_folds=[1, 3])
    assert len(found) == 8_000
    assert [found.get_data_info(index)['image_id'] for index in (0, 1, -1)] == ['X_000001', 'X_000003', 'X_019998']
