"""Each error of docs/faq.md is made to happen here, and says what the page quotes; ... stands for anything."""

import re

import pytest
import torch

from mmskin.config import load_config
from mmskin.engine.evaluate import evaluate_checkpoint as run_test
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


def foreign_checkpoint(folder, repository):
    weights = MODELS.build(load_config(repository / 'configs/multitask/r18_synthetic.py').model).state_dict()
    torch.save({'state_dict': weights}, 'multitask.pth')
    run_test(training(repository), 'multitask.pth')


def damaged_checkpoint(folder, repository):
    (folder / 'epoch_3.pth').write_bytes(b'half of a download')
    read_weights('epoch_3.pth')


PROVOCATIONS = (
    ('A mask or a diagnosis is missing', missing_mask),
    ('A mask or a diagnosis is missing', missing_diagnosis),
    ('A checkpoint does not fit the config', foreign_checkpoint),
    ('A checkpoint is damaged', damaged_checkpoint),
)


def matches(said, quoted):
    """Whether it is what the page quotes, whatever the lines and whatever stands for the dots."""
    pattern = re.escape(' '.join(quoted.split())).replace(re.escape('...'), '.*')
    return re.fullmatch(pattern, ' '.join(said.split()))


@pytest.mark.parametrize(('title', 'provoke'), PROVOCATIONS)
def test_error(title, provoke, entries, user_folder, repository):
    with pytest.raises(ValueError) as caught:
        provoke(user_folder, repository)
    assert matches(f'{caught.type.__name__}: {caught.value}', entries[title])


def test_every_entry_is_made_to_happen(entries):
    assert {*entries} == {title for title, _ in PROVOCATIONS}
