"""Each error of docs/faq.md is made to happen here, and says what the page quotes; ... stands for anything."""

import re
import shutil

import pytest
import torch

from mmskin import FailedImage, LesionInferencer
from mmskin.benchmark.runs import check_suite, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint as run_test
from mmskin.files import write_note
from mmskin.models.weights import read_weights
from mmskin.registry import DATASETS, MODELS

TINY = {
    **{f'{part}_dataloader.dataset.pipeline.0.size': 48 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.persistent_workers': False for part in ('train', 'val')},
    'train_dataloader.batch_size': 4,
    'train_cfg.max_epochs': 1,
}
ONE_STAGE = {**TINY, 'stages': None, 'train_cfg.val_interval': 9}


@pytest.fixture
def entries(repository):
    """The quoted errors by title."""
    text = (repository / 'docs' / 'faq.md').read_text()
    return dict(re.findall(r'^## (.+?)\n.*?```text\n(.*?)```', text, re.M | re.S))


def training(repository, **options):
    return load_config(repository / 'configs/fpm/r18_synthetic.py', options={**ONE_STAGE, **options})


def missing_mask(folder, repository):
    next((folder / 'data/synthetic/ISIC-2017_Training_Part1_GroundTruth').glob('*3_segmentation.png')).unlink()
    DATASETS.build(training(repository).train_dataloader.dataset)


def missing_diagnosis(folder, repository):
    table = folder / 'data/synthetic/ISIC-2017_Training_Part3_GroundTruth.csv'
    table.write_text(''.join(table.read_text().splitlines(keepends=True)[:-2]))
    DATASETS.build(training(repository).train_dataloader.dataset)


def cut_off_image(folder, repository):
    photo = folder / 'photo.jpg'
    photo.write_bytes(photo.read_bytes()[:1500])
    (item,) = LesionInferencer(device='cpu').iterate('photo.jpg')
    assert isinstance(item, FailedImage)
    raise item.error


def cut_off_image_in_training(folder, repository):
    image = next((folder / 'data/synthetic/ISIC-2017_Training_Data').glob('*0.jpg'))
    image.write_bytes(image.read_bytes()[:800])
    DATASETS.build(training(repository).train_dataloader.dataset)[0]


def foreign_checkpoint(folder, repository):
    weights = MODELS.build(load_config(repository / 'configs/multitask/r18_synthetic.py').model).state_dict()
    torch.save({'state_dict': weights}, 'multitask.pth')
    run_test(training(repository), 'multitask.pth')


def damaged_checkpoint(folder, repository):
    (folder / 'epoch_3.pth').write_bytes(b'half of a download')
    read_weights('epoch_3.pth')


@pytest.fixture
def begun(user_folder):
    """A suite of one method, whose run has begun."""
    suite = user_folder / 'suite.py'
    method = "dict(name='gated', config='configs/fpm/r18_synthetic.py')"
    suite.write_text(f"seeds = [0]\nmetrics = ['cls/AC']\nmethods = [{method}]\n")

    def runs(options):
        return runs_of(read_suite(suite, options=options), 'work_dirs/benchmarks/suite')

    (run,) = runs(TINY)
    run.folder.mkdir(parents=True)
    write_note(run.folder / 'plan.json', run.plan)
    return runs


PROVOCATIONS = (
    ('A mask or a diagnosis is missing', missing_mask),
    ('A mask or a diagnosis is missing', missing_diagnosis),
    ('An image is cut off', cut_off_image),
    ('An image is cut off', cut_off_image_in_training),
    ('A checkpoint does not fit the config', foreign_checkpoint),
    ('A checkpoint is damaged', damaged_checkpoint),
)
OF_BENCHMARKS = "A benchmark's settings or data have changed"


def matches(said, quoted):
    """Whether it is what the page quotes, whatever the lines and whatever stands for the dots."""
    pattern = re.escape(' '.join(quoted.split())).replace(re.escape('...'), '.*')
    return re.fullmatch(pattern, ' '.join(said.split()))


@pytest.mark.parametrize(('title', 'provoke'), PROVOCATIONS)
def test_error(title, provoke, entries, user_folder, repository):
    with pytest.raises(ValueError) as caught:
        provoke(user_folder, repository)
    assert matches(f'{caught.type.__name__}: {caught.value}', entries[title])


def test_settings_of_a_benchmark(begun, entries):
    with pytest.raises(ValueError) as caught:
        check_suite(begun({**TINY, 'optim_wrapper.optimizer.lr': 0.5}))
    assert 'was begun with other settings' in str(caught.value)
    assert matches(f'Mistake: {caught.value}', entries[OF_BENCHMARKS])


def test_data_of_a_benchmark(begun, entries, user_folder):
    image = next((user_folder / 'data/synthetic/ISIC-2017_Test_v2_Data').glob('*.jpg'))
    shutil.copy(user_folder / 'photo.jpg', image)
    with pytest.raises(ValueError) as caught:
        check_suite(begun(TINY))
    assert 'was begun on other data' in str(caught.value)
    assert matches(f'Mistake: {caught.value}', entries[OF_BENCHMARKS])


def test_every_entry_is_made_to_happen(entries):
    assert {*entries} == {title for title, _ in PROVOCATIONS} | {OF_BENCHMARKS}
