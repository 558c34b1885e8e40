"""The collections that ``mmskin prepare`` knows: what their archives are called, and how to read what is in them."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.preparation.archives import Archive
from mmskin.datasets.tables import CLASSES, read_rows, set_columns
from mmskin.errors import MissingFile, Mistake, needs
from mmskin.structures import is_known

FACTS = ('diagnosis', 'lesion_id', 'age', 'sex', 'site')  # of an image, as columns of the prepared table
ATTRIBUTES = ('globules', 'milia_like_cyst', 'negative_network', 'pigment_network', 'streaks')
PARTS = dict(train='Training', val='Validation', test='Test')
ISIC2018_CLASSES = ('MEL', 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC')
ISIC2019_CLASSES = ('MEL', 'NV', 'BCC', 'AK', 'BKL', 'DF', 'VASC', 'SCC', 'UNK')
PH2_CLASSES = ('common_nevus', 'atypical_nevus', 'melanoma')


@dataclass
class Reading:
    """What a split's folders and tables say.

    Attributes:
        images: files by id.
        masks: files by id, by the prepared table's column: ``mask`` is the lesion's.
        facts: of an image by id, some of ``FACTS``, and ``where`` they are from.
        problems: what is wrong in the tables.
    """

    images: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, dict[str, Path]] = field(default_factory=dict)
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Collection:
    """A public collection.

    Attributes:
        page: where people get it.
        licence: under which it is given.
        archives: its files.
        counts: how many images it has, by the splits of its archives.
        read: reads a split in the folder of what was unpacked; a mistake that concerns all of it is raised.
        classes: of its diagnoses; none where it has no diagnoses.
        folders: addresses of folders with the archives, of which each has all.
        dealt: the splits that it does not have and that are dealt from its training images.
    """

    page: str
    licence: str
    archives: tuple[Archive, ...]
    counts: Mapping[str, int]
    read: Callable[[Path, str], Reading]
    classes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    dealt: tuple[str, ...] = ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Those that its archives are of."""
        return tuple(dict.fromkeys(archive.split for archive in self.archives))


def find(folder: Path, ending: str) -> dict[str, Path]:
    """The files in a folder, at any depth, that end so, by the rest of their names."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob('*')):
        if path.name.lower().endswith(ending):
            name = path.name[: -len(ending)]
            if name in files:
                raise Mistake(f'{files[name]} and {path} have the same name; keep one of them')
            files[name] = path
    if not files:
        raise MissingFile(f'{folder} holds no file that ends in {ending}; unpack its archive again')
    return files


def read_facts(
    reading: Reading, path: Path, columns: Mapping[str, str], one_hot: Iterable[str] = (), id_column: str = 'image'
) -> None:
    """Add what a table says to a reading.

    Args:
        reading: is given facts, and problems of single rows.
        path: the table, with commas or tabs.
        columns: those of the table by the facts'.
        one_hot: the columns of the classes, of which a row has 1 in one.
        id_column: of the image's id.
    """
    if not path.is_file():
        raise MissingFile(f'{path} is missing; is its archive that of another split or collection?')
    one_hot, seen = tuple(one_hot), set()
    with path.open(encoding='utf-8', errors='replace') as file:
        delimiter = '\t' if '\t' in file.readline() else ','
    needed = (id_column, *columns.values(), *one_hot)
    for where, row in read_rows(path, needed, '', 'is it the table of another collection?', delimiter):
        image_id = row[id_column]
        known = {fact: row[column] for fact, column in columns.items() if is_known(row[column])}
        known |= {'where': where} if 'diagnosis' in known else {}
        try:
            if image_id in seen:
                raise Mistake(f'{where}: the id {image_id} occurs twice; keep one row')
            flagged = set_columns(row, one_hot, where) if one_hot else None
            if flagged is not None and len(flagged) != 1:
                raise Mistake(f'{where}: {len(flagged)} of {", ".join(one_hot)} are 1, and one has to be')
        except Mistake as error:
            reading.problems.append(str(error))
            continue
        seen.add(image_id)
        reading.facts.setdefault(image_id, {}).update(known | ({'diagnosis': flagged[0]} if flagged else {}))


def read_isic2017(folder: Path, split: str) -> Reading:
    """As ``ISIC2017Dataset`` does, with its checks."""
    inputs = dict(age='age_approximate', sex='sex')
    has_table = any(folder.glob(f'*_{PARTS[split]}*_Data/*_metadata.csv'))
    dataset = ISIC2017Dataset(folder, split, inputs=inputs if has_table else {})
    reading = Reading(masks={'mask': {}})
    for index in range(len(dataset)):
        sample = dataset.get_data_info(index)
        image_id = sample['image_id']
        reading.images[image_id] = Path(sample['img_path'])
        reading.masks['mask'][image_id] = Path(sample['seg_map_path'])
        reading.facts[image_id] = {'diagnosis': CLASSES[sample['gt_label']], **sample.get('inputs', {})}
    return reading


def read_ham10000(folder: Path, split: str) -> Reading:
    """The two folders of images, the masks if they are there, and the table."""
    reading = Reading(find(folder / 'HAM10000_images_part_1', '.jpg'))
    reading.images |= find(folder / 'HAM10000_images_part_2', '.jpg')
    masks = folder / 'HAM10000_segmentations_lesion_tschandl'
    reading.masks = {'mask': find(masks, '_segmentation.png')} if masks.is_dir() else {}
    columns = dict(diagnosis='dx', lesion_id='lesion_id', age='age', sex='sex', site='localization')
    read_facts(reading, folder / 'HAM10000_metadata.csv', columns, id_column='image_id')
    return reading


def read_isic2018_task12(folder: Path, split: str) -> Reading:
    """Images with the outlines of task 1 and, if they are there, the attributes of task 2."""
    part = PARTS[split]
    outlines = find(folder / f'ISIC2018_Task1_{part}_GroundTruth', '_segmentation.png')
    reading = Reading(find(folder / f'ISIC2018_Task1-2_{part}_Input', '.jpg'), {'mask': outlines})
    attributes = folder / f'ISIC2018_Task2_{part}_GroundTruth{"_v3" if split == "train" else ""}'
    if attributes.is_dir():
        reading.masks |= {name: find(attributes, f'_attribute_{name}.png') for name in ATTRIBUTES}
    return reading


def read_isic2018_task3(folder: Path, split: str) -> Reading:
    """Images and diagnoses, and which images are of one lesion, which only training images have."""
    part = PARTS[split]
    name = f'ISIC2018_Task3_{part}_GroundTruth'
    reading = Reading(find(folder / f'ISIC2018_Task3_{part}_Input', '.jpg'))
    read_facts(reading, folder / name / f'{name}.csv', {}, ISIC2018_CLASSES)
    if split == 'train':
        read_facts(reading, folder / 'ISIC2018_Task3_Training_LesionGroupings.csv', dict(lesion_id='lesion_id'))
    return reading


def read_isic2019(folder: Path, split: str) -> Reading:
    """Images, diagnoses, and ages, sexes, sites and, for training images, lesions."""
    part = PARTS[split]
    reading = Reading(find(folder / f'ISIC_2019_{part}_Input', '.jpg'))
    read_facts(reading, folder / f'ISIC_2019_{part}_GroundTruth.csv', {}, ISIC2019_CLASSES)
    columns = dict(age='age_approx', sex='sex', site='anatom_site_general')
    columns |= dict(lesion_id='lesion_id') if split == 'train' else {}
    read_facts(reading, folder / f'ISIC_2019_{part}_Metadata.csv', columns)
    return reading


def read_ph2(folder: Path, split: str) -> Reading:
    """A folder of images, masks and regions for each lesion, and a table with the clinical diagnoses."""
    root = folder / 'PH2Dataset'
    images = {path.stem: path for path in root.rglob('*_Dermoscopic_Image/*.bmp')}
    masks = {
        name.removesuffix('_lesion'): path for name, path in find(root, '.bmp').items() if name.endswith('_lesion')
    }
    reading = Reading(images, {'mask': masks})
    texts, sheets = sorted(root.rglob('PH2_dataset.txt')), sorted(root.rglob('PH2_dataset.xlsx'))
    if not texts and not sheets:
        raise MissingFile(f'{root}: neither PH2_dataset.txt nor PH2_dataset.xlsx is there; add one, with the diagnoses')
    path = (texts or sheets)[0]
    for where, name, code in rows_of_text(path) if texts else rows_of_sheet(path):
        if name in reading.facts:
            reading.problems.append(f'{where}: {name} occurs twice; keep one row')
        elif code not in ('0', '1', '2'):
            reading.problems.append(
                f'{where}: the clinical diagnosis of {name} is {code!r}, and not 0, 1 or 2; correct it'
            )
        else:
            reading.facts[name] = {'diagnosis': PH2_CLASSES[int(code)]}
    if not reading.facts:
        raise Mistake(f'{path} has no row of a lesion; restore it from the archive')
    return reading


def rows_of_text(path: Path) -> Iterable[tuple[str, str, str]]:
    """Where a row is, its lesion and its code in PH2's text, whose cells are between double bars."""
    for number, line in enumerate(path.read_text(encoding='utf-8', errors='replace').splitlines(), start=1):
        cells = [cell.strip() for cell in line.split('||')]
        if len(cells) > 3 and re.fullmatch(r'IMD\d+', cells[1]):
            yield f'{path}, line {number}', cells[1], cells[3]


def rows_of_sheet(path: Path) -> Iterable[tuple[str, str, str]]:
    """The same of PH2's spreadsheet, where a cross is in the column of the diagnosis."""
    load_workbook = needs('openpyxl', 'excel').load_workbook
    head: list[str] = []
    for number, cells in enumerate(load_workbook(path, read_only=True).active.iter_rows(values_only=True), start=1):
        texts = ['' if cell is None else str(cell).strip() for cell in cells]
        if 'Common Nevus' in texts:
            head = texts
        elif head and texts and re.fullmatch(r'IMD\d+', texts[0]):
            crosses = [texts[head.index(name)] for name in ('Common Nevus', 'Atypical Nevus', 'Melanoma')]
            marked = [str(code) for code, cross in enumerate(crosses) if cross]
            yield f'{path}, row {number}', texts[0], ' and '.join(marked)


def challenge(year: int) -> tuple[str, str]:
    """The two addresses of a challenge's folder."""
    return (
        f'https://isic-archive.s3.amazonaws.com/challenges/{year}/',
        f'https://isic-challenge-data.s3.amazonaws.com/{year}/',
    )


JPG, MASK, CSV = '.jpg', '_segmentation.png', '.csv'
DATAVERSE = 'https://dataverse.harvard.edu/api/access/datafile/'
MASKS = f'{DATAVERSE}3838943'
TABS = ('HAM10000_metadata.tab', 'HAM10000_metadata')  # as Dataverse names the table
# The sums of ISIC-2017 are those of several public downloaders, which agree; two were confirmed: copies of the training
# and the validation table have them, once their lines end as Windows ends lines. Those of HAM10000 are what Dataverse
# publishes, those of ISIC 2018's tasks 1 and 2 what torch-em checks. Where a sum is missing, none is known to us.
SUMS = {
    'ISIC-2017_Training_Data.zip': 'a14a7e622c67a358797ae59abb8a0b0c',
    'ISIC-2017_Training_Part1_GroundTruth.zip': '77fdbeb6fbec4139937224416b250f4c',
    'ISIC-2017_Training_Part3_GroundTruth.csv': '0cb4add57c65c22ca1a1cb469ad1f0c5',
    'ISIC-2017_Validation_Data.zip': '8d6419d942112f709894c0d82f6c9038',
    'ISIC-2017_Validation_Part1_GroundTruth.zip': '64d3e68fa2deeb8a5e89aa8dec2efd44',
    'ISIC-2017_Validation_Part3_GroundTruth.csv': '8d4826a76adcd8fb928ca52a23ebae4c',
    'ISIC-2017_Test_v2_Data.zip': '5f6a0b5e1f2972bd1f5ea02680489f09',
    'ISIC-2017_Test_v2_Part1_GroundTruth.zip': 'b1742de6bd257faca3b2b21a4aa3b781',
    'ISIC-2017_Test_v2_Part3_GroundTruth.csv': '9e957b72a0c4f9e0d924889fd03b36ed',
    'HAM10000_images_part_1.zip': '4639bfa73ab251610530a97c898e6e46',
    'HAM10000_images_part_2.zip': 'da43d6cc50f6613013be07e8986b384b',
    'HAM10000_metadata.csv': '8f85fb1aa29d80a2797247e434deb79d',
    'HAM10000_segmentations_lesion_tschandl.zip': '6e8d252e09cfdb0189199f15985a5b84',
    'ISIC2018_Task1-2_Training_Input.zip': '80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f',
    'ISIC2018_Task1_Training_GroundTruth.zip': '99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c',
    'ISIC2018_Task1-2_Validation_Input.zip': '0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797',
    'ISIC2018_Task1_Validation_GroundTruth.zip': 'f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285',
    'ISIC2018_Task1-2_Test_Input.zip': 'e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d',
    'ISIC2018_Task1_Test_GroundTruth.zip': '2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82',
}


def archive(name: str, split: str, holds: str, *further: Any, **options: Any) -> Archive:
    """An archive with the checksum that is known of it."""
    return Archive(name, split, holds, SUMS.get(name, ''), *further, **options)


CATALOGUE: Mapping[str, Collection] = {
    'isic2017': Collection(
        page='https://challenge.isic-archive.com/data/#2017',
        licence='CC0',
        folders=challenge(2017),
        archives=(
            archive('ISIC-2017_Training_Data.zip', 'train', JPG, 6200),
            archive('ISIC-2017_Training_Part1_GroundTruth.zip', 'train', MASK),
            archive('ISIC-2017_Training_Part3_GroundTruth.csv', 'train', 'image_id'),
            archive('ISIC-2017_Validation_Data.zip', 'val', JPG, 900),
            archive('ISIC-2017_Validation_Part1_GroundTruth.zip', 'val', MASK),
            archive('ISIC-2017_Validation_Part3_GroundTruth.csv', 'val', 'image_id'),
            archive('ISIC-2017_Test_v2_Data.zip', 'test', JPG, 5800),
            archive('ISIC-2017_Test_v2_Part1_GroundTruth.zip', 'test', MASK),
            archive('ISIC-2017_Test_v2_Part3_GroundTruth.csv', 'test', 'image_id'),
        ),
        counts=dict(train=2000, val=150, test=600),
        read=read_isic2017,
        classes=CLASSES,
    ),
    'ham10000': Collection(
        page='https://doi.org/10.7910/DVN/DBW86T',
        licence='CC BY-NC 4.0',
        archives=(
            archive('HAM10000_images_part_1.zip', 'train', JPG, 1366.5, f'{DATAVERSE}3172585'),
            archive('HAM10000_images_part_2.zip', 'train', JPG, 1403.6, f'{DATAVERSE}3172584'),
            archive('HAM10000_metadata.csv', 'train', 'lesion_id', 0.7, f'{DATAVERSE}4338392?format=original', TABS),
            archive('HAM10000_segmentations_lesion_tschandl.zip', 'train', MASK, 10.8, MASKS, is_optional=True),
        ),
        counts=dict(train=10015),
        read=read_ham10000,
        classes=('akiec', 'bcc', 'bkl', 'df', 'mel', 'nv', 'vasc'),
        dealt=('val', 'test'),
    ),
    'isic2018_task12': Collection(
        page='https://challenge.isic-archive.com/data/#2018',
        licence='CC0',
        folders=challenge(2018),
        archives=(
            archive('ISIC2018_Task1-2_Training_Input.zip', 'train', JPG, 11165.4),
            archive('ISIC2018_Task1_Training_GroundTruth.zip', 'train', MASK, 27.4),
            archive('ISIC2018_Task2_Training_GroundTruth_v3.zip', 'train', '_globules.png', is_optional=True),
            archive('ISIC2018_Task1-2_Validation_Input.zip', 'val', JPG, 239.2),
            archive('ISIC2018_Task1_Validation_GroundTruth.zip', 'val', MASK, 0.8),
            archive('ISIC2018_Task2_Validation_GroundTruth.zip', 'val', '_globules.png', is_optional=True),
            archive('ISIC2018_Task1-2_Test_Input.zip', 'test', JPG, 2370.5),
            archive('ISIC2018_Task1_Test_GroundTruth.zip', 'test', MASK, 9.7),
            archive('ISIC2018_Task2_Test_GroundTruth.zip', 'test', '_globules.png', is_optional=True),
        ),
        counts=dict(train=2594, val=100, test=1000),
        read=read_isic2018_task12,
    ),
    'isic2018_task3': Collection(
        page='https://challenge.isic-archive.com/data/#2018',
        licence='CC BY-NC 4.0',
        folders=challenge(2018),
        archives=(
            archive('ISIC2018_Task3_Training_Input.zip', 'train', JPG, megabytes=2800),
            archive('ISIC2018_Task3_Training_GroundTruth.zip', 'train', CSV),
            archive('ISIC2018_Task3_Training_LesionGroupings.csv', 'train', 'lesion_id'),
            archive('ISIC2018_Task3_Validation_Input.zip', 'val', JPG),
            archive('ISIC2018_Task3_Validation_GroundTruth.zip', 'val', CSV),
            archive('ISIC2018_Task3_Test_Input.zip', 'test', JPG, megabytes=400),
            archive('ISIC2018_Task3_Test_GroundTruth.zip', 'test', CSV),
        ),
        counts=dict(train=10015, val=193, test=1512),
        read=read_isic2018_task3,
        classes=ISIC2018_CLASSES,
    ),
    'isic2019': Collection(
        page='https://challenge.isic-archive.com/data/#2019',
        licence='CC BY-NC 4.0',
        folders=challenge(2019),
        archives=(
            archive('ISIC_2019_Training_Input.zip', 'train', JPG, megabytes=9800),
            archive('ISIC_2019_Training_GroundTruth.csv', 'train', 'MEL'),
            archive('ISIC_2019_Training_Metadata.csv', 'train', 'age_approx'),
            archive('ISIC_2019_Test_Input.zip', 'test', JPG, megabytes=3900),
            archive('ISIC_2019_Test_GroundTruth.csv', 'test', 'MEL'),
            archive('ISIC_2019_Test_Metadata.csv', 'test', 'age_approx'),
        ),
        counts=dict(train=25331, test=8238),
        read=read_isic2019,
        classes=ISIC2019_CLASSES,
        dealt=('val',),
    ),
    'ph2': Collection(
        page='https://www.fc.up.pt/addi/ph2%20database.html',
        licence='research and education only',
        archives=(archive('PH2Dataset.zip', 'train', '_lesion.bmp', aliases=('PH2Dataset.rar', 'PH2.zip')),),
        counts=dict(train=200),
        read=read_ph2,
        classes=PH2_CLASSES,
        dealt=('val', 'test'),
    ),
}
