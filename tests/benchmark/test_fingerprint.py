"""What counts as other data, without trainings."""

import shutil

import pytest

from mmskin.benchmark.fingerprint import fingerprints
from mmskin.config import load_config


@pytest.fixture
def found(repository, data_root, tmp_path):
    """Fingerprints on a copy of the data, a byte of which can be changed."""
    root = shutil.copytree(data_root, tmp_path / 'set')

    def find(path=None, place=0, **options):
        if path is not None:
            change(root / path, place)
        options['test_dataloader.dataset.pipeline.0.size'] = 48
        return fingerprints(load_config(repository / 'configs/fpm/r18_synthetic.py', None, str(root), options=options))

    return find


def change(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def differing(first, second):
    return {name for name in {*first, *second} if first.get(name) != second.get(name)}


def test_one_metric_may_stand_alone(repository, data_root):
    """In place of a list, as mmengine allows."""
    cfg = load_config(repository / 'configs/fpm/r18_synthetic.py', None, str(data_root))
    cfg.test_evaluator = cfg.test_evaluator[0]
    alone = fingerprints(cfg)
    cfg.test_evaluator = [cfg.test_evaluator]
    assert fingerprints(cfg) == alone


@pytest.mark.parametrize(
    ('path', 'place', 'name'),
    [
        ('ISIC-2017_Training_Data/SYN_0000003.jpg', 100, 'train images'),
        ('ISIC-2017_Test_v2_Data/SYN_2000003.jpg', -100, 'test images'),
        ('ISIC-2017_Test_v2_Part1_GroundTruth/SYN_2000004_segmentation.png', -1, 'test seg'),
    ],
)
def test_files_of_the_same_size_with_other_content_are_other_data(found, path, place, name):
    before, after = found(), found(path, place)
    assert differing(before, after) == {name}
    assert before[name].split('+')[0] == after[name].split('+')[0]


@pytest.mark.parametrize('place', ['1,a', '0,b'])
def test_another_fold_or_group_is_seen(place, found, data_root, tmp_path):
    table = tmp_path / 'folds.csv'
    names = sorted(path.stem for path in (data_root / 'ISIC-2017_Test_v2_Data').glob('*.jpg'))
    in_folds = {'test_dataloader.dataset.folds': str(table), 'test_dataloader.dataset.in_folds': [0, 1]}
    table.write_text('image_id,fold,group\n' + ''.join(f'{name},0,a\n' for name in names))
    before = found(**in_folds)
    table.write_text(table.read_text().replace(f'{names[0]},0,a', f'{names[0]},{place}'))
    assert differing(before, found(**in_folds)) == {'folds'}


@pytest.mark.parametrize('stage', [0, 1])
def test_a_stage_with_data_of_its_own_is_looked_at(found, stage):
    stages = [{'name': 'first'}, {'name': 'second'}]
    stages[stage]['train_dataloader.dataset.indices'] = 6
    other = [{**one, 'train_dataloader.dataset.indices': 6} for one in stages]
    all_images = found(stages=None)
    assert differing(all_images, found(stages=stages)) == set()
    assert differing(all_images, found(stages=other)) == {'train images', 'train cls', 'train seg'}
