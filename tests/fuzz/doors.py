"""The public doors that read a user's files, each with the file that is damaged and what a right answer is."""

import contextlib
import importlib.util
import io
import itertools
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pydicom
from PIL import Image, ImageOps
from scene import ROOT, Scene

from mmskin import LesionInferencer
from mmskin.benchmark.runs import check_suite, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.cli import main
from mmskin.datasets.csv_dataset import CsvLesionDataset
from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.transforms.loading import LoadImage, LoadMask
from mmskin.errors import Mistake
from mmskin.evaluation.per_image import PerImageTable
from mmskin.evaluation.submission import score_submission
from mmskin.files import write_csv
from mmskin.inference.prediction import FailedImage
from mmskin.models.weights import hash_tensors
from mmskin.program import run_tool

__all__ = ['DOORS', 'Door', 'open_doors']

Answer = str  # whatever the door gives, as text: of two answers one has to know whether they are the same


@dataclass
class Door:
    """One way into mmskin.

    Attributes:
        name: Of the door.
        file: What is damaged.
        kind: Of damage, as ``mangled`` has it.
        ask: Reads the file; raises a ``Mistake`` if it refuses it.
        allows: Whether another answer than that to the whole file is right, by the damaged bytes and the answer.
        named: Whether a refusal has to name the file; what is wrong inside a config names its part.
    """

    name: str
    file: Path
    kind: str
    ask: Callable[[], Answer]
    allows: Callable[[bytes, Answer], bool] = lambda data, answer: False
    named: bool = True


def command(*arguments: object) -> str:
    """What a command prints; its refusal, which has to be one line, is raised."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = main([*map(str, arguments)])
    if status:
        said = [line for line in errors.getvalue().splitlines() if line.startswith('mmskin ')]
        assert status == 2, f'status {status}'
        assert len(said) == 1, f'{len(said)} lines: {errors.getvalue()[-500:]}'
        assert 'Traceback' not in errors.getvalue(), errors.getvalue()
        raise Mistake(said[0].partition('error: ')[2])
    return out.getvalue()


def as_pandas_reads(data: bytes, needed: Sequence[str] | None = None) -> bytes | None:
    """A table as an independent library understands it, plainly written; None if nobody should accept it."""
    try:
        text = data.decode('utf-8-sig')
        if '\0' in text:
            return None
        most = range(1 + max(map(str.count, text.splitlines() or [''], itertools.repeat(','))))
        table = pd.read_csv(
            io.StringIO(text, newline=''), names=most, dtype=str, keep_default_na=False, skipinitialspace=True
        )
    except ValueError:
        return None
    width = int(table.iloc[0].notna().sum()) if len(table) else 0
    if (table.iloc[:, width:].fillna('') != '').any(axis=None):  # spreadsheets write empty cells at a line's end
        return None
    table = table.iloc[:, :width]
    if table.isna().any(axis=None):  # short rows
        return None
    rows = [[cell.strip() for cell in cells] for cells in table.to_numpy().tolist()]
    if any(rows[0].count(name) > 1 for name in needed or rows[0]):
        return None
    file = io.StringIO()
    for cells in rows:
        file.write(','.join('"{}"'.format(cell.replace('"', '""')) for cell in cells) + '\n')
    return file.getvalue().encode()


def table_door(name: str, file: Path, ask: Callable[[], Answer], needed: Sequence[str] | None = None) -> Door:
    """A door whose other answer is right if it gives the same to the table as pandas reads it."""

    def allows(data: bytes, answer: Answer) -> bool:
        plain = as_pandas_reads(data, needed)
        if plain is None:
            return False
        file.write_bytes(plain)
        try:
            return ask() == answer
        except Mistake:
            return False

    return Door(name, file, 'table', ask, allows)


def samples(dataset: CsvLesionDataset | ISIC2017Dataset) -> Answer:
    """What a data set says of its images."""
    keys = ('image_id', 'img_path', 'seg_map_path', 'gt_label', 'inputs')
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return repr([[info.get(key) for key in keys] for info in infos])


def dataset_tables(scene: Scene, folder: Path) -> Iterator[Door]:
    """Tables of data sets."""
    names = sorted(path.stem for path in scene.data.glob('*Training_Data/*.jpg'))
    lesions = folder / 'lesions.csv'
    kinds = ('melanoma', 'nevus', 'seborrheic_keratosis')
    images, masks = 'ISIC-2017_Training_Data', 'ISIC-2017_Training_Part1_GroundTruth'
    rows = [
        (f'{images}/{name}.jpg', f'{masks}/{name}_segmentation.png', kinds[n % 3], 30 + n, name, 'a note, or two')
        for n, name in enumerate(names)
    ]
    head = ('image', 'mask', 'diagnosis', 'age', 'id', 'note')
    write_csv(lesions, [head, *rows])

    def csv_dataset(**more: object) -> Answer:
        options = dict(mask_column='mask', label_column='diagnosis', id_column='id', inputs=dict(age='age'))
        return samples(CsvLesionDataset(lesions, 'image', data_root=scene.data, **{**options, **more}))

    yield table_door('CSV data set', lesions, csv_dataset, head[:-1])

    flags = folder / 'flags.csv'
    write_csv(flags, [('image', 'mel', 'nv', 'sk'), *((f'{images}/{n}.jpg', 1, 0, 0) for n in names)])
    yield table_door(
        'CSV data set with a column for each class',
        flags,
        lambda: samples(CsvLesionDataset(flags, label_column=('mel', 'nv', 'sk'), data_root=scene.data)),
    )

    root = Path(shutil.copytree(scene.data, folder / 'isic'))
    inputs = dict(age='age_approximate', sex='sex')
    for name, file in (
        ('ground truth', 'ISIC-2017_Training_Part3_GroundTruth.csv'),
        ('metadata of a data set', 'ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv'),
    ):
        needed = ('image_id', 'melanoma', 'seborrheic_keratosis', 'age_approximate', 'sex')
        yield table_door(name, root / file, lambda: samples(ISIC2017Dataset(root, 'train', inputs=inputs)), needed)

    extra = folder / 'extra.csv'
    places = [(f'x{n}', f'{scene.data}/{images}/{n}.jpg', f'{scene.data}/{masks}/{n}_segmentation.png') for n in names]
    head = ('image_id', 'melanoma', 'seborrheic_keratosis', 'img_path', 'seg_map_path')
    write_csv(extra, [head, *((name, 1, 0, image, mask) for name, image, mask in places)])
    yield table_door(
        'list of more samples',
        extra,
        lambda: samples(ISIC2017Dataset(scene.data, 'train', extra=extra)),
    )

    folds = folder / 'folds.csv'
    write_csv(folds, [('image_id', 'fold', 'group'), *((name, n % 2, names[n // 2]) for n, name in enumerate(names))])
    yield table_door('folds', folds, lambda: samples(ISIC2017Dataset(scene.data, folds=folds, in_folds=[0])))


def other_tables(scene: Scene, folder: Path) -> Iterator[Door]:
    """Tables that are read beside a data set."""
    photos = Path(shutil.copytree(scene.data / 'ISIC-2017_Test_v2_Data', folder / 'photos'))
    names = sorted(path.stem for path in photos.glob('*.jpg'))
    metadata = folder / 'metadata.csv'
    write_csv(metadata, [('image_id', 'age', 'sex'), *((name, 40, 'female') for name in names)])
    inferencer = LesionInferencer(scene.model, device='cpu')
    yield table_door('metadata for predict', metadata, lambda: repr({**inferencer.read_metadata(metadata, names)}))

    submission = folder / 'submission'
    submission.mkdir()
    scores = [(name, f'0.{n + 1}', f'0.{9 - n}') for n, name in enumerate(names)]
    write_csv(submission / 'Part3.csv', [('image_id', 'melanoma', 'seborrheic_keratosis'), *scores])
    yield table_door(
        'predictions to score', submission / 'Part3.csv', lambda: repr(score_submission(submission, scene.data))
    )
    root = Path(shutil.copytree(scene.data, folder / 'truth'))
    clean = folder / 'clean'
    shutil.copytree(submission, clean)
    yield table_door(
        'truth to score against',
        root / 'ISIC-2017_Test_v2_Part3_GroundTruth.csv',
        lambda: tool('score_submission.py', clean, root),
    )
    tested = Path(shutil.copytree(scene.tested_folder, folder / 'tested'))
    yield Door(
        'per_image.csv of a test', tested / 'per_image.csv', 'table', lambda: repr([*PerImageTable.read(tested).rows()])
    )
    loose = folder / 'loose.csv'
    table = (tested / 'per_image.csv').read_text()
    loose.write_text(table.replace('SYN_2', 'other_'))
    yield table_door('per_image.csv to calibrate on', loose, lambda: repr([*PerImageTable.read(loose).rows()]))


def reports(scene: Scene, folder: Path) -> Iterator[Door]:
    """The report, which takes seconds for each answer."""
    tested = Path(shutil.copytree(scene.tested_folder, folder / 'tested'))
    loose = folder / 'loose.csv'
    text = (tested / 'per_image.csv').read_text().splitlines()
    loose.write_text('\n'.join([text[0], *(f'other_{line}' for line in text[1:])]) + '\n')

    def report() -> Answer:
        command('report', tested, '--calibrate-on', loose)
        return (tested / 'temperature.json').read_text().split('"source"')[0]

    yield table_door('report: table to calibrate on', loose, report)
    for name in ('per_image.csv', 'results.json', 'cases.json', 'test.json'):
        kind = 'table' if name.endswith('csv') else 'json'
        yield Door(f'report: {name}', tested / name, kind, report)


def tool(name: str, *arguments: object) -> str:
    """What a script of tools/ prints; its refusal is raised."""
    spec = importlib.util.spec_from_file_location(f'tool_{name[:-3]}', ROOT / 'tools' / name)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out, errors, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = run_tool(module)
    finally:
        sys.argv = before
    if status:
        assert status == 2, f'status {status}'
        assert errors.getvalue().count('\n') == 1, errors.getvalue()
        raise Mistake(errors.getvalue().partition('error: ')[2])
    return out.getvalue()


def benchmarks(scene: Scene, folder: Path) -> Iterator[Door]:
    """What a benchmark left, read by its report."""
    work = Path(shutil.copytree(scene.benchmark, folder / 'benchmark'))
    out = work / 'suite.json'

    def report() -> Answer:
        out.unlink(missing_ok=True)
        command('benchmark', scene.suite, '--work-dir', work, '--data-root', scene.data, '--report-only')
        return out.read_text()

    record = work / 'plain/seed0/fold1'
    for name in ('run.json', 'results.json', 'per_image.csv'):
        yield Door(f'benchmark: {name}', record / name, 'json' if name.endswith('json') else 'table', report)
    yield Door('benchmark: folds.csv', work / 'folds.csv', 'table', report)

    begun = Path(shutil.copytree(scene.benchmark, folder / 'begun'))
    for note in begun.rglob('run.json'):
        note.unlink()

    def check() -> Answer:
        check_suite(runs_of(read_suite(scene.suite, str(scene.data)), begun))
        return 'as it was'

    yield Door('benchmark: plan.json', begun / 'plain/seed0/fold1/plan.json', 'json', check)
    yield Door('benchmark: folds.csv to continue with', begun / 'folds.csv', 'table', check)


def trainings(scene: Scene, folder: Path) -> Iterator[Door]:
    """What a training left, and continues from."""
    work = Path(shutil.copytree(scene.trained, folder / 'trained'))

    def resume() -> Answer:
        command('train', scene.config, '--resume', '--work-dir', work)
        return (work / 'last_checkpoint').read_text()

    yield Door('stage.json', work / 'stage.json', 'json', resume)
    yield Door('last_checkpoint', work / 'last_checkpoint', 'bytes', lambda: test_of(scene, work, folder), named=False)


def test_of(scene: Scene, work: Path, folder: Path) -> Answer:
    """The metrics of a work folder's checkpoint."""
    command('test', scene.config, work, '--work-dir', folder / 'test_again', '--no-report')
    return (folder / 'test_again/results.json').read_text()


def programs(scene: Scene, folder: Path) -> Iterator[Door]:
    """Suites and configs, which are Python."""
    anything = lambda data, answer: True  # noqa: E731 (they do what they say)
    suite = folder / 'suite.py'
    shutil.copy(scene.config, folder / 'tiny.py')
    suite.write_bytes(scene.suite.read_bytes())

    def power() -> Answer:
        return command('benchmark', suite, '--work-dir', folder / 'none', '--data-root', scene.data, '--power')

    yield Door('suite', suite, 'python', power, anything, named=False)

    work = Path(shutil.copytree(scene.benchmark, folder / 'again'))
    other = folder / 'again.py'
    other.write_bytes(scene.suite.read_bytes())

    def report() -> Answer:
        return command('benchmark', other, '--work-dir', work, '--data-root', scene.data, '--report-only')

    yield Door('suite with results', other, 'python', report, anything, named=False)

    config = folder / 'config.py'
    config.write_bytes(scene.config.read_bytes())

    def train() -> Answer:
        return command('train', config, '--work-dir', folder / 'work')

    def evaluate() -> Answer:
        return command('test', config, scene.trained, '--work-dir', folder / 'test', '--no-report')

    def predict() -> Answer:
        photo = next(scene.data.glob('*Test_v2_Data/*.jpg'))
        options = ('--out-dir', folder / 'out', '--model', config, '--checkpoint', scene.trained)
        return command('predict', photo, *options)

    for name, ask in (('train', train), ('test', evaluate), ('predict', predict)):
        yield Door(f'config for {name}', config, 'python', ask, anything, named=False)


def models(scene: Scene, folder: Path) -> Iterator[Door]:
    """Weights: the answer is the hash of all tensors that came into the network."""
    model = Path(shutil.copytree(scene.model, folder / 'model'))
    weights = model / 'weights.safetensors'
    yield Door('model folder: weights', weights, 'bytes', lambda: loaded(model))
    yield Door(
        'model folder: config.py', model / 'config.py', 'python', lambda: loaded(model), lambda *_: True, named=False
    )
    checkpoint = folder / 'checkpoint.pth'
    shutil.copy(sorted(scene.trained.rglob('*.pth'))[-1], checkpoint)
    yield Door('checkpoint', checkpoint, 'bytes', lambda: loaded(scene.config, checkpoint))


def loaded(*model: Path) -> str:
    """The hash of the tensors of a network."""
    return hash_tensors(LesionInferencer(*model, device='cpu').network.state_dict())


def pictures(scene: Scene, folder: Path) -> Iterator[Door]:
    """Images in all formats: training's reader and prediction have to agree, and to see what the file holds."""
    inferencer = LesionInferencer(scene.model, device='cpu')
    load = LoadImage()

    def ask(file: Path) -> Answer:
        (found,) = inferencer.iterate([file])
        try:
            pixels = load({'img_path': str(file)})['img']
        except Mistake:
            assert isinstance(found, FailedImage), 'predicted, but not to be trained with'
            raise
        assert not isinstance(found, FailedImage), f'could be trained with, but not predicted: {found.error}'
        assert found.size == pixels.shape[:2], (found.size, pixels.shape)
        assert found.probabilities and all(map(math.isfinite, found.probabilities.values()))
        return repr((pixels.shape, pixels.tobytes()))

    for name, make in {**scene.images(), **scene.dicoms()}.items():
        file = folder / name
        file.write_bytes(make())
        shows = dicom_shows if file.suffix == '.dcm' else pillow_shows
        yield Door(f'image {name}', file, 'bytes', lambda file=file: ask(file), shows)
    for name, make in scene.masks().items():
        file = folder / name
        file.write_bytes(make())
        yield Door(f'mask {name}', file, 'bytes', lambda file=file: read_mask(file), mask_shows)


def read_mask(file: Path) -> Answer:
    """A mask as training has it."""
    mask = LoadMask()({'seg_map_path': str(file), 'img_path': 'x.jpg', 'ori_shape': (48, 64)})['gt_seg_map']
    return repr((mask.shape, mask.tobytes()))


def pillow_shows(data: bytes, answer: Answer) -> bool:
    """Whether Pillow sees the same, in a format that has no checksum by which damage could be seen."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format == 'PNG':  # each chunk has a checksum
                image.verify()
                image = Image.open(io.BytesIO(data))
            image.load()
            turned = ImageOps.exif_transpose(image)
            size = turned.size
    except Exception:  # of what it cannot read
        return False
    return eval(answer)[0][:2] == size[::-1]


def mask_shows(data: bytes, answer: Answer) -> bool:
    """As ``pillow_shows``, for a mask."""
    return pillow_shows(data, answer)


def dicom_shows(data: bytes, answer: Answer) -> bool:
    """Whether pydicom finds a picture of that size; its values have no checksum."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        return eval(answer)[0][:2] == (dataset.Rows, dataset.Columns)
    except Exception:
        return False


DOORS = {
    'tables': (dataset_tables, other_tables),
    'reports': (reports,),
    'benchmarks': (benchmarks,),
    'trainings': (trainings,),
    'programs': (programs,),
    'weights': (models,),
    'images': (pictures,),
}


def open_doors(scene: Scene, groups: Sequence[str] = tuple(DOORS)) -> Iterator[Door]:
    """All doors of some groups, each with files of its own."""
    for group in groups:
        for number, make in enumerate(DOORS[group]):
            folder = scene.folder / f'{group}{number}'
            folder.mkdir()
            yield from make(scene, folder)
