"""A suite from its first run to its table: interrupted, continued, refused on changed data."""

import json
import shutil

import numpy as np
import pytest
from filelock import FileLock

from mmskin.benchmark import runs as runs_module
from mmskin.benchmark.collect import collect
from mmskin.benchmark.metrics import read_columns, resampled_metric
from mmskin.benchmark.report import write_report
from mmskin.benchmark.runs import Run, check_suite, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.benchmark.workers import select_shard, work

pytestmark = pytest.mark.slow

ROWS = ('gated sum', 'with flips', 'no passing')
ONE_SEED = ('seeds = [0, 1]', 'seeds = [0]')
SMALL_MASKS = [
    dict(type='LoadImage', size=48),
    dict(type='LoadMask'),
    dict(type='mmcv.Resize', scale=(48, 48)),
    dict(type='PackTaskSample'),
]


def interrupted_after(count):
    """A test that works ``count`` times."""
    calls = iter(range(count))
    test = runs_module.test_checkpoint

    def run(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return test(*arguments)

    return run


def times_of(root):
    """When each checkpoint was written."""
    return {path: path.stat().st_mtime_ns for path in root.rglob('epoch_*.pth')}


@pytest.fixture(scope='module')
def finished(tmp_path_factory, write_suite, data_root):
    """The runs of the suite, interrupted in the second run's test, and continued."""
    folder = tmp_path_factory.mktemp('benchmark')
    suite = read_suite(write_suite(folder / 'tiny.py'), str(data_root))
    runs = runs_of(suite, folder / 'out')
    check_suite(runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs_module, 'test_checkpoint', interrupted_after(1))
        with pytest.raises(KeyboardInterrupt):
            work(runs)
    assert sum(run.finished for run in runs) == 1
    before = times_of(folder / 'out')
    assert len(before) == 2
    check_suite(runs_of(suite, folder / 'out'))
    work(runs)
    after = times_of(folder / 'out')
    assert len(after) == 4
    assert all(after[path] == time for path, time in before.items()), 'trained again what was there'
    return runs


@pytest.fixture(scope='module')
def report(finished):
    return collect(finished[0].suite, finished, num_resamples=200)


def test_every_run_is_finished(finished):
    assert len(finished) == 6
    assert all(run.finished and not run.failed for run in finished)


def test_flips_are_tested_with_the_other_methods_networks(report):
    plain, flips = (report['methods'][name] for name in ROWS[:2])
    assert flips['parameters'] == plain['parameters']
    assert flips['flops'] == 4 * plain['flops']
    assert flips['activation_bytes'] == plain['activation_bytes'] > 0


def test_means_are_those_of_the_runs(finished, report):
    for name in ROWS:
        results = [
            json.loads((run.folder / 'test/results.json').read_text()) for run in finished if run.method.name == name
        ]
        for metric, found in report['methods'][name]['metrics'].items():
            assert found['mean'] == pytest.approx(np.mean([one[metric] for one in results]))
            assert found['images'][0] <= found['mean'] <= found['images'][1]


@pytest.mark.parametrize(
    'metric', ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'cls/AP_melanoma', 'seg/JA', 'seg/specificity']
)
def test_metrics_follow_from_the_images(finished, metric):
    for run in finished:
        image_ids, columns = read_columns(run.folder / 'test/per_image.csv')
        found = resampled_metric(metric, columns, np.ones((1, len(image_ids))))
        expected = json.loads((run.folder / 'test/results.json').read_text())[metric]
        assert found == pytest.approx([expected])


def test_a_metric_that_does_not_follow_from_the_images_has_no_interval(finished):
    _, columns = read_columns(finished[0].folder / 'test/per_image.csv')
    assert resampled_metric('cls/F1', columns, np.ones((1, 9))) is None
    assert resampled_metric('cls/AC', {'seg/JA': np.ones(9)}, np.ones((1, 9))) is None


def test_any_two_methods_are_compared(report):
    pairs = {(row['first'], row['second']) for row in report['differences']}
    assert len(pairs) == 3
    assert len(report['differences']) == 3 * 4
    for row in report['differences']:
        first, second = (report['methods'][row[key]]['metrics'][row['metric']]['mean'] for key in ('first', 'second'))
        assert row['value'] == pytest.approx(first - second)


def test_files(report, tmp_path):
    table = write_report(report, tmp_path).read_text()
    assert table.startswith('# Tiny\n')
    assert '(0.787) |' in table
    assert '- no passing: shares its beginning' in table
    assert all(f'| {name} | 2 |' in table for name in ROWS)
    written = json.loads((tmp_path / 'tiny.json').read_text())
    per_image = written['methods']['gated sum']['seeds']['1']['per_image']
    assert len({row['image_id'] for row in per_image}) == 9
    assert {'seg/JA', 'cls/gt_label', 'cls/score_melanoma'} <= per_image[0].keys()
    assert (tmp_path / 'tiny.png').stat().st_size > 5000


def again(finished, tmp_path, data_root=None, **options):
    """The suite once more, over a copy of the runs' folder."""
    suite = finished[0].suite
    folder = shutil.copytree(finished[0].root, tmp_path / 'out', ignore=shutil.ignore_patterns('*.pth'))
    path = tmp_path / 'tiny.py'
    path.write_text((finished[0].root.parent / 'tiny.py').read_text().replace(*ONE_SEED))
    return runs_of(read_suite(path, str(data_root or suite.data_root), options), folder)


def test_a_moved_data_set_is_the_same(finished, data_root, tmp_path):
    check_suite(again(finished, tmp_path, shutil.copytree(data_root, tmp_path / 'moved')))


@pytest.mark.parametrize(
    ('path', 'changed'),
    [
        ('ISIC-2017_Test_v2_Part1_GroundTruth/SYN_2000003_segmentation.png', 'test seg'),
        ('ISIC-2017_Test_v2_Data/SYN_2000003.jpg', 'test images'),
        ('ISIC-2017_Training_Data/SYN_0000003.jpg', 'train images'),
    ],
)
def test_changed_data_is_refused(finished, data_root, tmp_path, path, changed):
    root = shutil.copytree(data_root, tmp_path / 'set')
    with (root / path).open('ab') as file:
        file.write(b'\0')
    with pytest.raises(ValueError, match=f'seed0 was begun on other data or with another test protocol: {changed} '):
        check_suite(again(finished, tmp_path, root))


def test_changed_settings_are_refused(finished, tmp_path):
    with pytest.raises(ValueError, match='seed0 was begun with other settings'):
        check_suite(again(finished, tmp_path, **{'optim_wrapper.optimizer.lr': 0.5}))


@pytest.mark.parametrize(
    ('option', 'differs'),
    [
        ("{'test_dataloader.dataset.split': 'val'}", 'test images'),
        ("{'test_dataloader.dataset.pipeline': SMALL_MASKS}", 'scoring seg'),
        ("{'test_evaluator': [dict(type='SegmentationMetric', prefix='cls')]}", 'scoring cls'),
        ("{'train_dataloader.dataset.indices': 6}", 'train images'),
    ],
)
def test_methods_that_differ_in_data_or_protocol_are_refused(suite_file, data_root, tmp_path, option, differs):
    option = option.replace('SMALL_MASKS', repr(SMALL_MASKS))
    text = suite_file.read_text().replace("note='shares its beginning'", f'options={option}').replace(*ONE_SEED)
    suite_file.write_text(text)
    with pytest.raises(ValueError, match=f"no passing, seed 0 and gated sum, seed 0 .* differ in '{differs}'"):
        check_suite(runs_of(read_suite(suite_file, str(data_root)), tmp_path / 'out'))
    if differs == 'train images':
        suite_file.write_text(text + "\nmay_differ = ['train images', 'train cls', 'train seg']\n")
        check_suite(runs_of(read_suite(suite_file, str(data_root)), tmp_path / 'out'))


def test_nothing_to_report(suite_file, tmp_path):
    suite = read_suite(suite_file)
    with pytest.raises(ValueError, match='no run is finished'):
        collect(suite, runs_of(suite, tmp_path))


@pytest.fixture
def executed(monkeypatch):
    """The names of the runs that are executed, in place of training."""
    names = []

    def execute(run):
        names.append(run.name)
        if 'no passing' in run.name:
            raise RuntimeError('out of memory')
        run.folder.joinpath('run.json').write_text('{}')

    monkeypatch.setattr(Run, 'execute', execute)
    return names


def test_a_failed_run_is_noted_and_the_others_go_on(suite_file, tmp_path, executed):
    runs = runs_of(read_suite(suite_file), tmp_path / 'out')
    work(runs)
    assert sorted(executed) == sorted(run.name for run in runs)
    assert [run.name for run in runs if run.failed] == ['no passing, seed 0', 'no passing, seed 1']
    assert 'out of memory' in (tmp_path / 'out/no_passing/seed1/error.txt').read_text()


def test_a_run_that_another_process_holds_is_left(suite_file, tmp_path, executed):
    runs = runs_of(read_suite(suite_file), tmp_path / 'out')
    held = tmp_path / 'out/gated_sum/seed0'
    held.mkdir(parents=True)
    with FileLock(held / 'lock'):
        work(runs)
    assert {'gated sum, seed 0', 'with flips, seed 0'} & {*executed} == set()
    work(runs)
    assert executed.count('gated sum, seed 0') == executed.count('with flips, seed 0') == 1


def test_shards_are_disjoint_and_complete(suite_file, tmp_path):
    runs = runs_of(read_suite(suite_file), tmp_path)
    parts = [select_shard(runs, f'{index}/3', {}) for index in range(3)]
    assert sorted(run.name for part in parts for run in part) == sorted(run.name for run in runs)
    for part in parts:
        folders = {run.folder for run in part}
        assert all(run.trainer.folder in folders for run in part)
    slurm = {'SLURM_ARRAY_TASK_ID': '14', 'SLURM_ARRAY_TASK_MIN': '10', 'SLURM_ARRAY_TASK_STEP': '2'}
    assert select_shard(runs, None, {**slurm, 'SLURM_ARRAY_TASK_COUNT': '3'}) == parts[2]
    assert select_shard(runs, None, {}) == runs
    with pytest.raises(ValueError, match='--shard 3/3: write i/n'):
        select_shard(runs, '3/3', {})
