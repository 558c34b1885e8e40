"""What the network sees in addition to the image, from tables to samples, and the look at it before a run."""

import re

import numpy as np
import pytest
import torch

from mmskin.config import load_config
from mmskin.datasets.csv_dataset import CsvLesionDataset
from mmskin.datasets.isic2017 import ISIC2017Dataset
from mmskin.datasets.synthetic import SyntheticLesions
from mmskin.engine.stages import build_runner, run_stages
from mmskin.files import read_csv
from mmskin.registry import TRANSFORMS

COLUMNS = dict(age='age_approximate', sex='sex')
TABLE = 'ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv'


@pytest.fixture
def root(tmp_path):
    SyntheticLesions(shape=(48, 64)).write(tmp_path / 'set', num_train=6, num_val=3, num_test=3)
    return tmp_path / 'set'


def write_table(root, *rows, head='image_id,age_approximate,sex'):
    (root / TABLE).write_text('\n'.join([head, *rows]) + '\n')


def inputs_of(dataset):
    return [dataset.get_data_info(index).get('inputs', {}) for index in range(len(dataset))]


def test_isic2017_reads_its_metadata(root):
    write_table(root, *(f'SYN_000000{i},{age},{sex}' for i, (age, sex) in enumerate(
        [('55', 'female'), ('unknown', 'male'), ('', ''), ('nan', 'unknown'), ('85.0', 'Female'), ('40', '')]
    )))  # fmt: skip
    found = inputs_of(ISIC2017Dataset(root, inputs=COLUMNS))
    assert found == [
        {'age': '55', 'sex': 'female'}, {'sex': 'male'}, {}, {}, {'age': '85.0', 'sex': 'Female'}, {'age': '40'}
    ]  # fmt: skip
    assert not any(inputs_of(ISIC2017Dataset(root)))


def test_real_metadata(real_data):
    train, val = (ISIC2017Dataset(real_data / 'isic2017_256', split, inputs=COLUMNS) for split in ('train', 'val'))
    assert sum('age' in one for one in inputs_of(train)) == 2000 - 256
    assert sum('age' in one for one in inputs_of(val)) == 149


def test_a_missing_table_is_an_error_where_it_was_asked_for(root):
    (root / TABLE).unlink()
    assert len(ISIC2017Dataset(root)) == 6
    with pytest.raises(FileNotFoundError, match=f'{TABLE} is missing; .*leave out inputs'):
        ISIC2017Dataset(root, inputs=COLUMNS)


def test_a_test_does_without_the_table(root):
    (root / TABLE).unlink()
    dataset = ISIC2017Dataset(root, inputs=COLUMNS, test_mode=True)
    assert not any(inputs_of(dataset))


def test_images_that_a_table_lacks_are_counted_and_unknown(root, capsys):
    write_table(root, 'SYN_0000001,30,male', 'ISIC_9999999,40,male')
    found = inputs_of(ISIC2017Dataset(root, inputs=COLUMNS))
    assert found == [{}, {'age': '30', 'sex': 'male'}, {}, {}, {}, {}]
    assert capsys.readouterr().err.endswith('lacks 5 of 6 images, which are left unknown, such as SYN_0000000\n')


@pytest.mark.parametrize(
    ('rows', 'head', 'message'),
    [
        (['ISIC_9999999,40,male'], None, 'has none of the 6 images, such as SYN_0000000'),
        (['SYN_0000001,40,male'] * 2, None, 'line 3: the id SYN_0000001 occurs twice'),
        (['SYN_0000001,40'], 'image_id,age', 'has no column age_approximate, sex'),
        (['SYN_0000001,40,male'], 'name,age_approximate,sex', 'has no column image_id or image or isic_id'),
    ],
)
def test_tables_that_are_wrong(root, rows, head, message):
    write_table(root, *rows, head=head or 'image_id,age_approximate,sex')
    with pytest.raises(ValueError, match=message):
        ISIC2017Dataset(root, inputs=COLUMNS)


def test_any_column_of_a_csv(root):
    images = sorted((root / 'ISIC-2017_Training_Data').glob('*.jpg'))[:2]
    (root / 'list.csv').write_text(
        f'image,Alter,site\n{images[0].relative_to(root)},61,back\n{images[1].relative_to(root)},,unknown\n'
    )
    data = CsvLesionDataset('list.csv', data_root=root, inputs=dict(age='Alter', site='site'))
    assert inputs_of(data) == [{'age': '61', 'site': 'back'}, {}]
    with pytest.raises(ValueError, match=r'has no column weight'):
        CsvLesionDataset('list.csv', data_root=root, inputs=dict(weight='weight'))


def test_synthetic_ages_go_with_the_class():
    lesions = SyntheticLesions()
    told = [lesions.age_and_sex('train', index) for index in range(600)]
    means = [np.mean([float(age) for age, _ in told[label::3] if age != 'unknown']) for label in range(3)]
    np.testing.assert_allclose(means, (62, 42, 68), atol=3)
    male = [np.mean([sex == 'male' for _, sex in told[label::3] if sex != 'unknown']) for label in range(3)]
    np.testing.assert_allclose(male, (0.65, 0.45, 0.55), atol=0.12)
    assert 0.06 < np.mean([age == 'unknown' for age, _ in told]) < 0.14
    assert told == [lesions.age_and_sex('train', index) for index in range(600)]


def test_the_set_on_the_disk_has_them(root):
    rows = [(row['image_id'], row['age_approximate'], row['sex']) for row in read_csv(root / TABLE)]
    assert rows == [(f'SYN_000000{index}', *SyntheticLesions().age_and_sex('train', index)) for index in range(6)]


def test_dropping_follows_the_seed_and_the_epoch(root):
    steps = [
        dict(type='LoadImage', size=48), dict(type='ResizeImage'), dict(type='DropInputs', prob=0.5, all_prob=0),
        dict(type='PackTaskSample'),
    ]  # fmt: skip
    write_table(root, *(f'SYN_000000{index},50,male' for index in range(6)))
    data = ISIC2017Dataset(root, tasks=('cls',), inputs=COLUMNS, pipeline=steps, seed=3)

    def epoch(number):
        data.set_epoch(number)
        return [data[index]['data_samples'].get('inputs', {}) for index in range(6)]

    epochs = [epoch(number) for number in range(20)]
    assert epochs == [epoch(number) for number in range(20)]
    known = [name for one in epochs for sample in one for name in sample]
    assert 45 <= known.count('age') <= 75, 'half of 120'
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(('options', 'left'), [(dict(prob=0, all_prob=1), {}), (dict(prob=0, all_prob=0), {'age': 3})])
def test_dropping_all_or_none(options, left):
    drop = TRANSFORMS.build(dict(type='DropInputs', **options))
    assert drop({'inputs': {'age': 3}})['inputs'] == left
    assert drop({})['inputs'] == {}


def test_probabilities_are_probabilities():
    with pytest.raises(ValueError, match=r'prob=1\.5'):
        TRANSFORMS.build(dict(type='DropInputs', prob=1.5))


@pytest.fixture
def cfg(repository, root, tmp_path):
    """The demo's network with age and sex, for one step on small images."""
    options = {f'{split}_dataloader.dataset.pipeline.0.size': 48 for split in ('train', 'val', 'test')}
    options |= {f'{split}_dataloader.{key}': value for split in ('train', 'val', 'test') for key, value in (
        ('num_workers', 0), ('persistent_workers', False), ('batch_size', 3), ('dataset.inputs', COLUMNS)
    )}  # fmt: skip
    cfg = load_config(repository / 'configs/fpm/r18_synthetic.py', str(tmp_path / 'run'), str(root), options=options)
    cfg.stages = None
    cfg.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    cfg.model.inputs = dict(
        age=dict(type='Numeric', minimum=0, maximum=120, edges=(40, 60)),
        sex=dict(type='Categorical', values=('female', 'male')),
    )
    cfg.model.tasks.cls.fusion = dict(type='PriorFusion')
    cfg.val_evaluator = [dict(type='ClassificationMetric')]
    cfg.default_hooks.pop('visualization')
    cfg.visualizer = None
    return cfg


@pytest.mark.parametrize('fusion', ['PriorFusion', 'FiLMFusion', 'ConcatFusion'])
def test_training_with_them(cfg, fusion, root):
    """The counts are those of the training set, also after dropping, and are in the checkpoint."""
    cfg.model.tasks.cls.fusion.type = fusion
    cfg.train_dataloader.dataset.pipeline.insert(-1, dict(type='DropInputs', prob=0.5))
    weights = torch.load(run_stages(cfg), weights_only=False)['state_dict']
    if fusion == 'PriorFusion':
        sexes = [row['sex'] for row in read_csv(root / TABLE)]
        counts = torch.ones(2, 3)
        for index, sex in enumerate(sexes):
            if sex != 'unknown':
                counts[('female', 'male').index(sex), index % 3] += 1
        ratio = (counts / counts.sum(0)) / (counts.sum(1) / counts.sum())[:, None]
        torch.testing.assert_close(weights['tasks.cls.fusion.table_sex'], ratio.log())
    else:
        assert weights['tasks.cls.fusion.layers.2.bias'].any(), 'the last layer has not learnt'


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_values_without_sense_stop_a_run_before_it_starts(cfg, root, split):
    name = {'train': 'Training', 'val': 'Validation', 'test': 'Test_v2'}[split]
    table = root / f'ISIC-2017_{name}_Data' / f'ISIC-2017_{name}_Data_metadata.csv'
    lines = table.read_text().splitlines()
    table.write_text('\n'.join([*lines[:2], f'{lines[2].split(",")[0]},130,male', *lines[3:]]))
    runner = build_runner(cfg)
    with pytest.raises(
        ValueError, match=r"_metadata.csv, line 3: age_approximate is '130'; give a number from 0 to 120"
    ):
        runner.test() if split == 'test' else runner.train()


def test_an_input_that_no_training_image_has_is_refused(cfg):
    cfg.train_dataloader.dataset.inputs = dict(sex='sex')
    with pytest.raises(ValueError, match=r'no image of the training set has age.*train_dataloader.dataset.inputs'):
        build_runner(cfg).train()


def test_the_config_of_the_docs_trains(repository, root, tmp_path):
    """As docs/inputs.md has it, one stage for one epoch on small images."""
    (text,) = re.findall(r'```python\n(.*?)```', (repository / 'docs' / 'inputs.md').read_text(), re.S)
    (tmp_path / 'mine.py').write_text(text)
    options = {f'{split}_dataloader.dataset.pipeline.0.size': 48 for split in ('train', 'val')}
    options |= {'train_dataloader.batch_size': 3, 'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0}
    cfg = load_config(tmp_path / 'mine.py', str(tmp_path / 'run'), str(root), options=options)
    cfg.stages = [{**cfg.stages[0], 'train_cfg': dict(max_epochs=1, val_interval=1)}]
    weights = torch.load(run_stages(cfg), weights_only=False)['state_dict']
    assert weights['tasks.cls.fusion.table_age'].shape == (7, 3)
    assert weights['tasks.cls.fusion.table_age'].any()
