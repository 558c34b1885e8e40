"""Each collection of the catalogue, from small archives in the layout that it really ships in."""

import csv
import io
import re
import shutil
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mmskin.cli import main
from mmskin.config import load_config
from mmskin.datasets.csv_dataset import CsvLesionDataset
from mmskin.datasets.preparation.catalogue import CATALOGUE
from mmskin.datasets.preparation.prepare import Settings, prepare
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.errors import Mistake
from mmskin.files import read_csv
from mmskin.registry import DATASETS

PAINTER = SyntheticLesions(seed=11, shape=(72, 96))
ATTRIBUTES = ('globules', 'milia_like_cyst', 'negative_network', 'pigment_network', 'streaks')
HAM_HEAD = ('lesion_id', 'image_id', 'dx', 'dx_type', 'age', 'sex', 'localization', 'dataset')
PH2_LINE = '|| {} || {:>22} || {:>18} || 0 | T | A | A | A | A || 4 ||'
PH2_LEGEND = '\n\nLegends:\n\n|| Clinical Diagnosis ||\n0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.\n'


def picture(number, ending='.jpg'):
    return cv2.imencode(ending, PAINTER.sample('train', number)[0][..., ::-1])[1].tobytes()


def mask(number, ending='.png'):
    return cv2.imencode(ending, PAINTER.sample('train', number)[1] * 255)[1].tobytes()


def table(head, rows, delimiter=','):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator='\n').writerows([head, *rows])
    return text.getvalue().encode()


def one_hot(names, number):
    return [f'{float(number % len(names) == place)}' for place in range(len(names))]


def ham10000():
    """Pictures without a folder, masks in one, with a Mac's litter; two lesions were photographed twice."""
    ids = [f'ISIC_{24306 + number:07}' for number in range(40)]
    dx = CATALOGUE['ham10000'].classes
    rows = [
        (f'HAM_{min(number, 37):07}', one, dx[number % 7], 'histo', '' if number == 3 else '80.0', 'male', 'scalp', 'x')
        for number, one in enumerate(ids)
    ]
    masks = 'HAM10000_segmentations_lesion_tschandl'
    return {
        'HAM10000_images_part_1.zip': {f'{one}.jpg': picture(n) for n, one in enumerate(ids) if n < 20},
        'HAM10000_images_part_2.zip': {f'{one}.jpg': picture(n) for n, one in enumerate(ids) if n >= 20},
        f'{masks}.zip': {f'{masks}/{one}_segmentation.png': mask(n) for n, one in enumerate(ids)}
        | {f'__MACOSX/{masks}/._{ids[0]}_segmentation.png': b'junk'},
        'HAM10000_metadata.csv': table(HAM_HEAD, rows),
    }


def isic2018_task12():
    files, number = {}, 100
    for part, count in (('Training', 6), ('Validation', 3), ('Test', 3)):
        version = '_v3' if part == 'Training' else ''
        names = [f'ISIC2018_Task1-2_{part}_Input', f'ISIC2018_Task1_{part}_GroundTruth']
        names.append(f'ISIC2018_Task2_{part}_GroundTruth{version}')
        zips = [{f'{name}/LICENSE.txt': b'CC-0', f'{name}/ATTRIBUTION.txt': b'ISIC'} for name in names]
        for n in range(number, number + count):
            one = f'ISIC_{n:07}'
            zips[0][f'{names[0]}/{one}.jpg'] = picture(n)
            zips[1][f'{names[1]}/{one}_segmentation.png'] = mask(n)
            for name in ATTRIBUTES:
                zips[2][f'{names[2]}/{one}_attribute_{name}.png'] = mask(n)
        number += count
        files |= {f'{name}.zip': content for name, content in zip(names, zips, strict=True)}
    return files


def isic2018_task3():
    files, number, classes = {}, 200, CATALOGUE['isic2018_task3'].classes
    for part, count in (('Training', 7), ('Validation', 3), ('Test', 3)):
        folder, truth = f'ISIC2018_Task3_{part}_Input', f'ISIC2018_Task3_{part}_GroundTruth'
        numbers = range(number, number + count)
        files[f'{folder}.zip'] = {f'{folder}/ISIC_{n:07}.jpg': picture(n) for n in numbers}
        rows = [(f'ISIC_{n:07}', *one_hot(classes, n)) for n in numbers]
        files[f'{truth}.zip'] = {f'{truth}/{truth}.csv': table(('image', *classes), rows), f'{truth}/LICENSE.txt': b''}
        if part == 'Training':
            groups = [(f'ISIC_{n:07}', f'HAM_{n:07}', 'histopathology') for n in numbers]
            head = ('image', 'lesion_id', 'diagnosis_confirm_type')
            files['ISIC2018_Task3_Training_LesionGroupings.csv'] = table(head, groups)
        number += count
    return files


def isic2019():
    files, classes = {}, CATALOGUE['isic2019'].classes
    for part, numbers in (('Training', range(300, 330)), ('Test', range(330, 334))):
        names = {n: f'ISIC_{n:07}{"_downsampled" if n == 301 else ""}' for n in numbers}
        files[f'ISIC_2019_{part}_Input.zip'] = {
            f'ISIC_2019_{part}_Input/{name}.jpg': picture(n) for n, name in names.items()
        } | {f'ISIC_2019_{part}_Input/ATTRIBUTION.txt': b'x'}
        truth = [(name, *one_hot(classes[:3], n), *['0.0'] * 6) for n, name in names.items()]
        files[f'ISIC_2019_{part}_GroundTruth.csv'] = table(('image', *classes), truth)
        told = [(name, '55.0', 'anterior torso', f'BCN_{n}' if n % 2 else '', 'female') for n, name in names.items()]
        head = ('image', 'age_approx', 'anatom_site_general', 'lesion_id', 'sex')
        if part == 'Test':  # names no lesions
            head, told = (head[0], *head[1:3], head[4]), [(*row[:3], row[4]) for row in told]
        files[f'ISIC_2019_{part}_Metadata.csv'] = table(head, told)
    return files


def ph2(with_sheet=False):
    """A folder for each lesion, below two that hold all."""
    names = {n: f'IMD{n - 400:03}' for n in range(402, 434)}
    root, files = 'PH2Dataset/PH2 Dataset images', {}
    for n, name in names.items():
        files[f'{root}/{name}/{name}_Dermoscopic_Image/{name}.bmp'] = picture(n, '.bmp')
        files[f'{root}/{name}/{name}_lesion/{name}_lesion.bmp'] = mask(n, '.bmp')
        files[f'{root}/{name}/{name}_roi/{name}_R1_Label3.bmp'] = mask(n, '.bmp')
    lines = [PH2_LINE.format(name, 'Melanoma' if n % 3 == 2 else '', n % 3) for n, name in names.items()]
    head = '||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network ||   Colors ||'
    if with_sheet:
        openpyxl = pytest.importorskip('openpyxl')
        book, crosses = openpyxl.Workbook(), ('Common Nevus', 'Atypical Nevus', 'Melanoma')
        for _ in range(12):
            book.active.append(['PH2 database'])
        book.active.append(['Image Name', 'Histological Diagnosis', *crosses, 'Asymmetry\n(0/1/2)'])
        for n, name in names.items():
            book.active.append([name, None, *('X' if n % 3 == code else None for code in range(3)), 0])
        content = io.BytesIO()
        book.save(content)
        files['PH2Dataset/PH2_dataset.xlsx'] = content.getvalue()
    else:
        files['PH2Dataset/PH2_dataset.txt'] = '\n'.join([head, *lines, PH2_LEGEND]).encode()
    return {'PH2Dataset.zip': files}


MADE = dict(
    ham10000=ham10000, isic2018_task12=isic2018_task12, isic2018_task3=isic2018_task3, isic2019=isic2019, ph2=ph2
)


def write(folder, files):
    """Archives and tables as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            with zipfile.ZipFile(folder / name, 'w') as archive:
                for inner, data in content.items():
                    archive.writestr(inner, data)
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope='session')
def made(tmp_path_factory):
    """Folders of archives by collection, that no test changes."""
    root = tmp_path_factory.mktemp('collections')
    return {name: write(root / name, make()) for name, make in MADE.items()}


@pytest.fixture
def settings(made, tmp_path):
    """Of a collection's small archives, which have other hashes than the real ones."""

    def of(name, **options):
        known = CATALOGUE[name]
        archives = tuple(replace(archive, checksum='') for archive in known.archives)
        catalogue = {name: replace(known, archives=archives, folders=())}
        options = dict(sources=[made[name]], offline=True, workers=2) | options
        return Settings(name, tmp_path / name, catalogue=catalogue, **options)

    return of


EXPECTED = {
    'ham10000': (40, dict(diagnosis='akiec', lesion_id='HAM_0000000', age='80.0', sex='male', site='scalp'), True),
    'isic2018_task12': (12, dict(diagnosis='', lesion_id='', age=''), True),
    'isic2018_task3': (13, dict(diagnosis='BKL', lesion_id='HAM_0000200'), False),
    'isic2019': (34, dict(diagnosis='MEL', age='55.0', site='anterior torso', sex='female', lesion_id=''), False),
    'ph2': (32, dict(diagnosis='common_nevus', lesion_id=''), True),
}


@pytest.mark.parametrize('name', MADE)
def test_a_collection(name, settings, tmp_path):
    count, first, has_masks = EXPECTED[name]
    done = prepare(settings(name, resize=32))
    assert done.problems == []
    rows = read_csv(tmp_path / name / 'lesions.csv')
    assert len(rows) == count
    assert {column: rows[0][column] for column in first} == first
    assert all((tmp_path / name / row['image']).is_file() for row in rows)
    assert bool(rows[0]['mask']) == has_masks
    assert {row['split'] for row in rows} == {'train', 'val', 'test'}
    for root in (tmp_path / name, tmp_path / f'{name}_32'):
        config = load_config(root / f'{name}.py')
        sizes = []
        for split in ('train', 'val', 'test'):
            dataset = DATASETS.build(config[f'{split}_dataloader'].dataset)
            assert 'inputs' in dataset[0]
            sizes.append(len(dataset))
        assert sum(sizes) + len(done.leaks) >= count
        assert config.val_evaluator
    assert {shape for record in done.copied_splits.values() for shape in record.check.sizes.values()} == {(32, 32)}


def test_attributes_are_columns_of_masks(settings, tmp_path):
    prepare(settings('isic2018_task12'))
    dataset = CsvLesionDataset(
        'lesions.csv', data_root=tmp_path / 'isic2018_task12', split='train', id_column='image_id',
        masks=dict(gt_masks=ATTRIBUTES),
    )  # fmt: skip
    assert all(len(dataset.get_data_info(index)['mask_paths']['gt_masks']) == 5 for index in range(6))


def changed(made, name, folder, archive, change):
    """A copy of a collection's archives with one of them changed: ``change`` takes its content, and returns another."""
    shutil.copytree(made[name], folder)
    path = folder / archive
    if not archive.endswith('.zip'):
        path.write_bytes(change(path.read_bytes()))
        return folder
    with zipfile.ZipFile(path) as file:
        content = {one: file.read(one) for one in file.namelist()}
    write(folder, {archive: change(content)})
    return folder


def without(*names):
    return lambda content: {one: data for one, data in content.items() if one.rpartition('/')[2] not in names}


def spelt(before, after):
    return lambda content: content.replace(before, after)


@pytest.mark.parametrize(
    ('name', 'archive', 'change', 'problem'),
    [
        ('ham10000', 'HAM10000_images_part_2.zip', without('ISIC_0024330.jpg'), r'1 id \(ISIC_0024330\) of train in'),
        ('ham10000', 'HAM10000_metadata.csv', spelt(b'307,bcc', b'307,wart'), "csv, line 3: the diagnosis is 'wart'"),
        ('ham10000', 'HAM10000_metadata.csv', spelt(b'ISIC_0024307', b'ISIC_0024306'), 'line 3: the id ISIC_002'),
        ('ham10000', 'HAM10000_metadata.csv', spelt(b',dx,', b',disease,'), 'HAM10000_metadata.csv has no column dx'),
        (
            'isic2019',
            'ISIC_2019_Training_GroundTruth.csv',
            spelt(b'300,1.0,0.0', b'300,1.0,1.0'),
            'Training_GroundTruth.csv, line 2: 2 of MEL, NV',
        ),
        (
            'isic2018_task12',
            'ISIC2018_Task1_Test_GroundTruth.zip',
            lambda content: content | {'ISIC2018_Task1_Test_GroundTruth/ISIC_7_segmentation.png': mask(1)},
            r'\(ISIC_7\) of test in mask files but without an image',
        ),
        (
            'isic2018_task3',
            'ISIC2018_Task3_Test_GroundTruth.zip',
            lambda content: {'ISIC2018_Task3_Test_GroundTruth/other.csv': b'image\n'},
            'ISIC2018_Task3_Test_GroundTruth.csv is missing',
        ),
        ('ph2', 'PH2Dataset.zip', without('PH2_dataset.txt'), 'neither PH2_dataset.txt nor PH2_dataset.xlsx'),
        (
            'ph2',
            'PH2Dataset.zip',
            lambda content: content
            | {'PH2Dataset/PH2_dataset.txt': content['PH2Dataset/PH2_dataset.txt'].replace(b'0 || 0', b'7 || 0', 1)},
            "line 2: the clinical diagnosis of IMD002 is '7'",
        ),
        (
            'ham10000',
            'HAM10000_images_part_1.zip',
            lambda content: content | {'ISIC_0024306.jpg': picture(0)[:400]},
            'part_1/ISIC_0024306.jpg: ',
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_data(name, archive, change, problem, made, settings, tmp_path):
    folder = changed(made, name, tmp_path / 'changed', archive, change)
    done = prepare(settings(name, sources=[folder], resize=24))
    assert [one for one in done.problems if re.search(problem, one)], done.problems
    assert not (tmp_path / f'{name}_24').exists()


def test_what_an_image_lacks_is_noted(made, settings, tmp_path):
    folder = changed(
        made, 'ham10000', tmp_path / 'changed', 'HAM10000_metadata.csv', spelt(b'ISIC_0024309', b'ISIC_0024310')
    )
    folder = changed(
        {'x': folder},
        'x',
        tmp_path / 'more',
        'HAM10000_segmentations_lesion_tschandl.zip',
        without('ISIC_0024306_segmentation.png'),
    )
    done = prepare(settings('ham10000', sources=[folder]))
    assert '  without diagnosis: 1 id (ISIC_0024309)\n  without mask: 1 id (ISIC_0024306)\n' in done.text()


@pytest.mark.parametrize(
    ('archive', 'content', 'message'),
    [
        (
            'HAM10000_images_part_1.zip',
            {'x/ISIC_1_segmentation.png': b'1'},
            'images_part_1.zip holds no file that ends in .jpg',
        ),
        ('HAM10000_metadata.csv', b'<html>please log in</html>', 'metadata.csv is not a table with a column lesion_id'),
        ('HAM10000_images_part_1.zip', b'PK cut off', 'HAM10000_images_part_1.zip is not a complete zip archive'),
        ('HAM10000_images_part_1.zip', {'../evil.jpg': b'1'}, "part_1.zip is refused, .* '../evil.jpg' lies outside"),
    ],
)
def test_archives_that_are_refused(archive, content, message, made, settings, tmp_path):
    folder = write(shutil.copytree(made['ham10000'], tmp_path / 'changed'), {archive: content})
    with pytest.raises(Mistake, match=message):
        prepare(settings('ham10000', sources=[folder]))
    assert not list(tmp_path.rglob('evil*'))


def test_a_damaged_file_of_an_archive_is_named(made, settings, tmp_path):
    folder = shutil.copytree(made['isic2019'], tmp_path / 'changed')
    path = folder / 'ISIC_2019_Test_Input.zip'
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    path.write_bytes(content)
    with pytest.raises(Mistake, match='ISIC_2019_Test_Input.zip is damaged'):
        prepare(settings('isic2019', sources=[folder]))


def test_sources_of_any_kind(made, settings, tmp_path):
    """Files, folders of archives, what somebody unpacked, and the table as Dataverse converts it."""
    folder, own = made['ham10000'], tmp_path / 'own'
    with zipfile.ZipFile(folder / 'HAM10000_images_part_1.zip') as file:
        file.extractall(own / 'HAM10000_images_part_1' / 'HAM10000_images_part_1')
    rows = [line.split(',') for line in (folder / 'HAM10000_metadata.csv').read_text().splitlines()]
    text = '\n'.join('\t'.join(f'"{cell}"' for cell in row) for row in rows) + '\n'
    (own / 'HAM10000_metadata.tab').write_text(text)
    masks = folder / 'HAM10000_segmentations_lesion_tschandl.zip'
    done = prepare(settings('ham10000', sources=[own, folder / 'HAM10000_images_part_2.zip', masks]))
    assert done.problems == []
    assert done.splits['train'].check.classes['akiec'] == 6
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / 'ham10000').rglob('*.jpg')}
    (own / 'HAM10000_images_part_1' / 'HAM10000_images_part_1' / 'ISIC_0024306.jpg').write_bytes(picture(900))
    assert prepare(settings('ham10000', sources=[own, folder / 'HAM10000_images_part_2.zip'])).problems == []
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / 'ham10000').rglob('*.jpg')}
    assert [path.name for path in after if after[path] != before[path]] == ['ISIC_0024306.jpg']


def test_what_is_missing_is_downloaded_from_its_own_address(made, settings, server, hasty, tmp_path):
    """As Dataverse's numbers; what has no address is asked of the user."""
    given = settings(
        'ham10000', sources=[made['ham10000'] / 'HAM10000_images_part_1.zip'], offline=False, patience=hasty
    )
    known = given.catalogue['ham10000']
    names = [archive.name for archive in known.archives]
    server.files = {f'file/{number}': (made['ham10000'] / name).read_bytes() for number, name in enumerate(names)}
    archives = tuple(
        replace(archive, address=f'{server.url}file/{number}?x=y') for number, archive in enumerate(known.archives)
    )
    server.files = {f'{name}?x=y': content for name, content in server.files.items()}
    done = prepare(replace(given, catalogue={'ham10000': replace(known, archives=archives)}))
    assert done.problems == []
    assert [path for method, path, _ in server.requests if method == 'GET'] == [f'/file/{n}?x=y' for n in (1, 2, 3)]
    assert (tmp_path / 'ham10000' / 'archives' / 'HAM10000_metadata.csv').is_file()


def test_masks_may_be_absent(made, settings, tmp_path):
    folder = shutil.copytree(made['ham10000'], tmp_path / 'changed')
    (folder / 'HAM10000_segmentations_lesion_tschandl.zip').unlink()
    assert prepare(settings('ham10000', sources=[folder])).problems == []
    config = load_config(tmp_path / 'ham10000' / 'ham10000.py')
    assert [*config.model.tasks] == ['cls']


@pytest.mark.parametrize(
    ('sources', 'message'),
    [
        (['ISIC_2019_Test_Input.zip'], 'ISIC_2019_Test_Input.zip is none of the archives of ham10000: HAM10000_images'),
        (['.'], 'holds none of the archives of ham10000'),
        (['nowhere.zip'], 'nowhere.zip: no such archive or folder'),
        (
            [],
            r'HAM10000_images_part_1.zip \(1366.5 MB\), .* missing; name them, .* at https://doi.org/10.7910/DVN/DBW86T',
        ),
    ],
)
def test_sources_that_are_none(sources, message, made, settings, tmp_path):
    with pytest.raises(Mistake, match=message):
        prepare(settings('ham10000', sources=[made['isic2019'] / one for one in sources]))


def test_a_rar_is_refused_with_advice(settings, tmp_path):
    (tmp_path / 'PH2Dataset.rar').write_bytes(b'Rar!')
    with pytest.raises(Mistake, match='PH2Dataset.rar is a RAR, .* name the folder PH2Dataset'):
        prepare(settings('ph2', sources=[tmp_path / 'PH2Dataset.rar']))


def test_the_folder_that_a_rar_was_unpacked_to(made, settings, tmp_path):
    with zipfile.ZipFile(made['ph2'] / 'PH2Dataset.zip') as file:
        file.extractall(tmp_path / 'downloads')
    (tmp_path / 'downloads' / 'PH2Dataset.rar').write_bytes(b'Rar!')
    done = prepare(settings('ph2', sources=[tmp_path / 'downloads']))
    assert done.problems == []
    assert done.splits['train'].check.classes == dict(common_nevus=11, atypical_nevus=11, melanoma=10)


def test_the_spreadsheet_says_what_the_text_says(settings, tmp_path):
    folder = write(tmp_path / 'sheet', ph2(with_sheet=True))
    done = prepare(settings('ph2', sources=[folder]))
    assert done.problems == []
    assert done.splits['train'].check.classes == dict(common_nevus=11, atypical_nevus=11, melanoma=10)


def test_lesions_and_what_looks_the_same_stay_together(made, settings, tmp_path):
    """A tenth each for validation and test; ISIC_0024309 is a copy of ISIC_0024310, turned and compressed again."""
    turned = cv2.imencode('.jpg', np.rot90(cv2.imdecode(np.frombuffer(picture(4), np.uint8), 1)), [1, 70])[1].tobytes()
    folder = changed(
        made, 'ham10000', tmp_path / 'changed', 'HAM10000_images_part_1.zip',
        lambda content: content | {'ISIC_0024309.jpg': turned},
    )  # fmt: skip
    (folder / 'HAM10000_segmentations_lesion_tschandl.zip').unlink()
    done = prepare(settings('ham10000', sources=[folder]))
    rows = {row['image_id']: row for row in read_csv(tmp_path / 'ham10000' / 'lesions.csv')}
    assert rows['ISIC_0024309']['split'] == rows['ISIC_0024310']['split']
    assert len({row['split'] for row in rows.values() if row['lesion_id'] == 'HAM_0000037'}) == 1
    sizes = [sum(row['split'] == split for row in rows.values()) for split in ('train', 'val', 'test')]
    assert sum(sizes) == 40
    assert min(sizes[1:]) >= 3
    assert done.leaks == []
    again = prepare(settings('ham10000', sources=[folder]))
    assert again.parts == done.parts


def test_leaks_between_splits_leave_training(made, settings, tmp_path):
    """A validation image of task 3 that is a training image, at another quality."""
    copy = cv2.imencode('.jpg', cv2.imdecode(np.frombuffer(picture(203), np.uint8), 1), [1, 60])[1].tobytes()
    folder = changed(
        made, 'isic2018_task3', tmp_path / 'changed', 'ISIC2018_Task3_Validation_Input.zip',
        lambda content: content | {'ISIC2018_Task3_Validation_Input/ISIC_0000208.jpg': copy},
    )  # fmt: skip
    done = prepare(settings('isic2018_task3', sources=[folder]))
    (leak,) = done.leaks
    assert (leak.kind, leak.split, leak.image_id, leak.other_split, leak.other_id) == (
        'near', 'train', 'ISIC_0000203', 'val', 'ISIC_0000208',
    )  # fmt: skip
    assert 'leaks: 1 near in another split; leaks.csv has all' in done.text()
    config = load_config(tmp_path / 'isic2018_task3' / 'isic2018_task3.py')
    assert config.train_dataloader.dataset.exclude == ['ISIC_0000203']
    assert len(DATASETS.build(config.train_dataloader.dataset)) == 6


def test_leaks_into_another_collection(made, settings, tmp_path):
    """By the image's id, though ISIC 2019 has it smaller; by the lesion's; and by what it shows."""
    prepare(settings('ham10000'))
    others = {row['image_id']: row for row in read_csv(tmp_path / 'ham10000' / 'lesions.csv')}
    head, *lines = (made['isic2019'] / 'ISIC_2019_Training_Metadata.csv').read_text().splitlines()
    folder = shutil.copytree(made['isic2019'], tmp_path / 'changed')
    for name in ('GroundTruth', 'Metadata'):
        path = folder / f'ISIC_2019_Training_{name}.csv'
        text = path.read_text().replace('ISIC_0000301_downsampled', 'ISIC_0024316_downsampled')
        path.write_text(text.replace('BCN_303', 'HAM_0000021'))
    with zipfile.ZipFile(folder / 'ISIC_2019_Training_Input.zip') as file:
        content = {one.replace('0000301', '0024316'): file.read(one) for one in file.namelist()}
    content['ISIC_2019_Training_Input/ISIC_0000305.jpg'] = picture(30)
    write(folder, {'ISIC_2019_Training_Input.zip': content})
    done = prepare(settings('isic2019', sources=[folder], against=[tmp_path / 'ham10000']))
    found = {(leak.kind, leak.image_id, leak.other_id) for leak in done.leaks if leak.other}
    assert found == {
        ('same image', 'ISIC_0024316_downsampled', 'ISIC_0024316'),
        ('same lesion', 'ISIC_0000303', 'ISIC_0024327'),
        ('exact', 'ISIC_0000305', 'ISIC_0024336'),
    }
    table = read_csv(tmp_path / 'isic2019' / 'leaks.csv')
    assert {row['other_split'] for row in table} == {others[one]['split'] for _, _, one in found}
    assert prepare(settings('isic2019', sources=[folder], against=[tmp_path / 'ham10000'])).leaks == done.leaks
    assert prepare(settings('isic2019', sources=[folder])).leaks == []


def test_a_folder_to_compare_with_was_prepared(settings, tmp_path):
    with pytest.raises(Mistake, match='has no lesions.csv; name a folder that mmskin prepare wrote'):
        prepare(settings('isic2019', against=[tmp_path]))


def test_a_folder_belongs_to_one_collection(made, settings, tmp_path):
    prepare(settings('ham10000'))
    with pytest.raises(Mistake, match='ham10000 holds ham10000; give ph2 a folder of its own'):
        prepare(replace(settings('ph2'), out_dir=tmp_path / 'ham10000'))


def test_a_second_run_reads_no_image_again(settings, tmp_path, monkeypatch):
    done = prepare(settings('ham10000', resize=24))
    monkeypatch.setattr('mmskin.readers.images.read_file', lambda *args: pytest.fail('read already'))
    assert prepare(settings('ham10000', resize=24)) == done


def test_the_catalogue_is_complete():
    """Each file is named once, and can be had: from a folder of the collection's, its own address, or by hand."""
    for name, collection in CATALOGUE.items():
        names = [archive.name for archive in collection.archives]
        assert len({*names}) == len(names)
        assert {*collection.counts} == {*collection.splits}, name
        assert collection.page.startswith('https://')
        assert all(folder.startswith('https://') and folder.endswith('/') for folder in collection.folders)
        assert all(len(archive.checksum) in (0, 32, 64) for archive in collection.archives)
    assert all(archive.checksum for archive in CATALOGUE['isic2017'].archives)


def test_the_help_names_every_collection(capsys):
    with pytest.raises(SystemExit):
        main(['prepare', '--help'])
    shown = capsys.readouterr().out
    assert [name for name in CATALOGUE if name not in shown] == []
