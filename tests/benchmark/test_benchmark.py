"""A suite from its first run to its table: interrupted, continued, refused on changed data."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from filelock import FileLock

from mmskin.benchmark import runs as runs_module
from mmskin.benchmark.collect import Measured, collect, compare, resampled_metric
from mmskin.benchmark.comparison import write_comparison
from mmskin.benchmark.runs import Run, check_suite, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.benchmark.workers import is_held, select_methods, select_shard, work
from mmskin.errors import MissingFile, Mistake
from mmskin.evaluation.per_image import PerImageTable
from mmskin.files import write_note

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
    test = runs_module.evaluate_checkpoint

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
        patch.setattr(runs_module, 'evaluate_checkpoint', interrupted_after(1))
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


def test_tested_networks_and_their_classes_are_noted(finished):
    networks = {run.name: run.noted()['networks'] for run in finished}
    assert all(run.noted()['classes'] == ['melanoma', 'nevus', 'seborrheic_keratosis'] for run in finished)
    assert networks['gated sum, seed 0']['needed'] is None
    assert len({found['tested'] for found in networks.values()}) == 4
    for seed in (0, 1):
        tested = networks[f'gated sum, seed {seed}']['tested']
        assert networks[f'with flips, seed {seed}'] == {'tested': tested, 'needed': tested}


def test_means_are_those_of_the_runs(finished, report):
    for name in ROWS:
        results = [json.loads((run.record / 'results.json').read_text()) for run in finished if run.method.name == name]
        for metric, found in report['methods'][name]['metrics'].items():
            assert found['mean'] == pytest.approx(np.mean([one[metric] for one in results]))
            low, high = found['images']
            assert low <= high
            if metric in ('cls/AC', 'seg/JA'):  # means over images; ranks of nine images rise when some are drawn twice
                assert low <= found['mean'] <= high


@pytest.mark.parametrize(
    'metric', ['cls/AC', 'cls/mAP', 'cls/AUC_mean', 'cls/AP_melanoma', 'seg/JA', 'seg/specificity']
)
def test_metrics_follow_from_the_images(finished, metric):
    for run in finished:
        table = PerImageTable.read(run.record)
        found = resampled_metric(metric, table, np.ones((1, len(table))))
        expected = json.loads((run.record / 'results.json').read_text())[metric]
        assert found == pytest.approx([expected])


def test_a_metric_that_does_not_follow_from_the_images_has_no_interval(finished):
    table = PerImageTable.read(finished[0].record)
    assert resampled_metric('cls/F1', table, np.ones((1, 9))) is None
    masks = PerImageTable(table.image_ids, {'seg/JA': np.ones(9)})
    assert resampled_metric('cls/AC', masks, np.ones((1, 9))) is None


def test_any_two_methods_are_compared(report):
    pairs = {(row['first'], row['second']) for row in report['differences']}
    assert len(pairs) == 3
    assert len(report['differences']) == 3 * 4
    for row in report['differences']:
        first, second = (report['methods'][row[key]]['metrics'][row['metric']]['mean'] for key in ('first', 'second'))
        assert row['value'] == pytest.approx(first - second, abs=1e-6)  # tables hold float32


def test_files(report, tmp_path):
    table = write_comparison(report, tmp_path).read_text()
    assert table.startswith('# Tiny\n')
    assert '(0.787) |' in table
    assert '- no passing: shares its beginning' in table
    assert all(f'| {name} | 2 |' in table for name in ROWS)
    written = json.loads((tmp_path / 'tiny.json').read_text())
    assert {'seg/JA', 'cls/AC'} <= written['methods']['gated sum']['seeds']['1']['results'].keys()
    assert (tmp_path / 'tiny.png').stat().st_size > 5000


def finish(run, result='run.json'):
    """Leave what a training and a test leave."""
    folder = run.folder / 'train'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'last.pth').write_bytes(b'')
    (folder / 'last_checkpoint').write_text('last.pth')
    write_note(run.folder / result, {})


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


def test_results_that_were_made_with_other_settings_are_not_reported(finished, tmp_path):
    runs = again(finished, tmp_path, 'no_such_folder')
    assert collect(runs[0].suite, runs, num_resamples=2)['methods']['no passing']['seeds'].keys() == {'0'}
    shutil.rmtree(tmp_path / 'out')
    runs = again(finished, tmp_path, 'no_such_folder', **{'optim_wrapper.optimizer.lr': 0.5})
    with pytest.raises(ValueError, match='seed0 was begun with other settings than .*r18_synthetic.py and the suite'):
        collect(runs[0].suite, runs)


@pytest.mark.parametrize(
    ('option', 'differs'),
    [
        ("{'test_dataloader.dataset.split': 'val'}", 'test images'),
        ("{'test_dataloader.dataset.pipeline': SMALL_MASKS}", 'scoring seg'),
        ("{'test_evaluator': [dict(type='SegmentationMetric', task='cls')]}", 'scoring cls'),
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


def measured(values):
    """A metric that no resample changes."""
    return Measured(
        {seed: np.full(5, value) for seed, value in values.items()},
        {seed: np.array([value]) for seed, value in values.items()},
    )


def test_seeds_of_one_origin_are_paired_by_number():
    values = {0: 0.1, 1: 0.5, 2: 0.9}
    first, second = measured(values), measured({seed: values[seed] - 0.25 for seed in (2, 1)})
    found = compare(first, second, same_origin=True)
    assert found['paired_seeds'] == [1, 2]
    assert found['value'] == pytest.approx(0.25)
    assert found['images_and_seeds'] == pytest.approx((0.25, 0.25))
    alone = compare(first, second, same_origin=False)
    assert alone['paired_seeds'] == []
    assert alone['value'] == pytest.approx(0.05)
    assert alone['images_and_seeds'][0] < -0.9


def test_seeds_of_one_origin_without_a_common_one_are_not_paired():
    first, second = (measured({seed: seed / 10 for seed in seeds}) for seeds in ((0, 1), (2, 3)))
    found = compare(first, second, same_origin=True)
    assert found['paired_seeds'] == []
    assert found == compare(first, second, same_origin=False)


def test_a_table_that_lost_images_is_refused(finished, tmp_path):
    """Two rows of nine are no finished test, though all that is there can be read."""
    runs = again(finished, tmp_path)
    path = next(run for run in runs if run.finished).record / 'per_image.csv'
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(ValueError, match=r'seed0/per_image\.csv: was changed .* it has 2 rows, and 9 were written'):
        collect(runs[0].suite, runs, num_resamples=2)


def test_a_table_that_nothing_vouches_for_is_refused(suite_file, tmp_path):
    suite = read_suite(suite_file)
    runs = runs_of(suite, tmp_path)
    finish(runs[0])
    (runs[0].record / 'per_image.csv').write_text('image_id,seg/JA\na,0.5\n')
    with pytest.raises(MissingFile, match=r'seed0/results\.json: no such file'):
        collect(suite, runs, num_resamples=2)


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
        finish(run)

    monkeypatch.setattr(Run, 'execute', execute)
    return names


def test_a_failed_run_is_noted_and_the_others_go_on(suite_file, tmp_path, executed):
    runs = runs_of(read_suite(suite_file), tmp_path / 'out')
    work(runs)
    assert sorted(executed) == sorted(run.name for run in runs)
    assert [run.name for run in runs if run.failed] == ['no passing, seed 0', 'no passing, seed 1']
    assert 'out of memory' in (tmp_path / 'out/no_passing/seed1/error.txt').read_text()


@pytest.mark.parametrize('fault', [Mistake('seg: give a head'), RuntimeError('no memory')])
def test_a_mistake_is_a_line_and_a_fault_a_traceback(suite_file, tmp_path, monkeypatch, capsys, fault):
    def execute(run):
        raise fault

    monkeypatch.setattr(Run, 'execute', execute)
    run, *_ = runs_of(read_suite(suite_file), tmp_path / 'out')
    work([run])
    said = capsys.readouterr().err.splitlines()
    assert f'{run.name} failed: ' in said[0]
    assert str(fault) in ' '.join(said)
    assert (len(said) == 1) == isinstance(fault, Mistake)
    assert 'Traceback' in (run.folder / 'error.txt').read_text()


def test_a_run_that_another_process_holds_is_left(suite_file, tmp_path, executed):
    runs = runs_of(read_suite(suite_file), tmp_path / 'out')
    held = next(run for run in runs if run.name == 'no passing, seed 0')
    held.folder.mkdir(parents=True)
    with FileLock(held.folder / 'lock'):
        work(runs)
        assert is_held(held)
    assert sorted([*executed, held.name]) == sorted(run.name for run in runs)
    work(runs)
    assert not is_held(held)
    assert executed.count(held.name) == 1


@pytest.mark.parametrize(('left', 'then'), [('run.json', True), ('error.txt', False)])
def test_a_run_waits_for_the_networks_that_another_process_trains(
    suite_file, tmp_path, executed, monkeypatch, left, then
):
    """The other process ends with a finished run or a failed one while this one sleeps."""
    runs = runs_of(read_suite(suite_file), tmp_path / 'out')
    held = next(run for run in runs if run.name == 'gated sum, seed 0')
    held.folder.mkdir(parents=True)
    lock = FileLock(held.folder / 'lock')
    lock.acquire()
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            finish(held, left)
            lock.release()

    monkeypatch.setattr('mmskin.benchmark.workers.time', SimpleNamespace(sleep=sleep))
    work(runs, pause=7)
    assert pauses == [7, 7, 7]
    assert ('with flips, seed 0' in executed) == then
    assert held.name not in executed


def test_what_another_process_leaves_unfinished_is_taken_over(suite_file, tmp_path, executed, monkeypatch):
    runs = runs_of(read_suite(suite_file), tmp_path / 'out')
    held = next(run for run in runs if run.name == 'gated sum, seed 0')
    held.folder.mkdir(parents=True)
    lock = FileLock(held.folder / 'lock')
    lock.acquire()
    monkeypatch.setattr('mmskin.benchmark.workers.time', SimpleNamespace(sleep=lambda seconds: lock.release()))
    work(runs)
    assert executed.count(held.name) == executed.count('with flips, seed 0') == 1


def test_a_chain_of_networks_stays_in_one_shard(suite_file, tmp_path):
    later = ("name='no passing'", "name='later', starts_from='gated sum'")
    suite_file.write_text(
        suite_file.read_text().replace(*later)
        + "methods.append({**methods[1], 'name': 'crops', 'weights_of': 'later'})\n"
    )
    runs = runs_of(read_suite(suite_file), tmp_path)
    parts = [select_shard(runs, f'{index}/3', {}) for index in range(3)]
    assert [sorted({run.seed for run in part}) for part in parts] == [[0], [1], []]
    assert all(run.origin.name == f'gated sum, seed {run.seed}' for run in runs)


def slurm(own, first, last, count, step=1):
    """What Slurm tells a task of an array."""
    values = dict(ID=own, MIN=first, MAX=last, COUNT=count, STEP=step)
    return {f'SLURM_ARRAY_TASK_{key}': str(value) for key, value in values.items()}


@pytest.mark.parametrize(
    'environment',
    [
        slurm(1, 1, 3, 3),
        slurm(0, 0, 4, 3, step=2),
        slurm(7, 0, 7, 3),  # --array=0,3,7
        slurm(5, 5, 5, 1),  # a single task again
        {'SLURM_ARRAY_TASK_ID': '0'},
    ],
)
def test_an_array_that_does_not_say_its_parts_is_refused(suite_file, tmp_path, environment):
    runs = runs_of(read_suite(suite_file), tmp_path)
    with pytest.raises(ValueError, match=r'this Slurm array has .* or say which part this task takes, such as --shard'):
        select_shard(runs, None, environment)
    assert select_shard(runs, '1/3', environment) == select_shard(runs, '1/3', {})


def test_shards_are_disjoint_and_complete(suite_file, tmp_path):
    runs = runs_of(read_suite(suite_file), tmp_path)
    parts = [select_shard(runs, f'{index}/3', {}) for index in range(3)]
    assert sorted(run.name for part in parts for run in part) == sorted(run.name for run in runs)
    for part in parts:
        folders = {run.folder for run in part}
        assert all(run.trainer.folder in folders for run in part)
    assert [select_shard(runs, None, slurm(index, 0, 2, 3)) for index in range(3)] == parts
    assert select_shard(runs, None, {}) == runs
    with pytest.raises(ValueError, match='--shard 3/3: write i/n'):
        select_shard(runs, '3/3', {})


def test_chosen_methods_come_with_those_they_start_from(suite_file, tmp_path):
    suite_file.write_text(
        suite_file.read_text().replace("name='no passing'", "name='later', starts_from='gated sum'")
        + "methods.append({**methods[1], 'name': 'last', 'weights_of': 'later'})\n"
    )
    runs = runs_of(read_suite(suite_file), tmp_path)
    assert {run.method.name for run in select_methods(runs, ['later'])} == {'gated sum', 'later'}
    assert {run.method.name for run in select_methods(runs, ['last'])} == {'gated sum', 'later', 'last'}
    assert select_methods(runs, None) == runs
    with pytest.raises(ValueError, match='--methods lats: the suite has no such method; it has gated sum'):
        select_methods(runs, ['lats'])
