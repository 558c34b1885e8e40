"""The exit status of a benchmark, without trainings."""

import sys

import pytest
from filelock import FileLock

from mmskin.benchmark.runs import Run, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.benchmark.workers import spawn
from mmskin.cli import main
from mmskin.files import write_note


@pytest.fixture
def runs(suite_file, tmp_path):
    """The runs of the suite, in the work folder of ``command``."""
    return runs_of(read_suite(suite_file), tmp_path / 'out')


@pytest.fixture
def command(suite_file, tmp_path, monkeypatch):
    """Run ``mmskin benchmark``; in place of a report its call is noted, in place of a training the run is finished."""
    monkeypatch.setattr('mmskin.benchmark.runs.check_suite', lambda runs: None)
    monkeypatch.setattr('mmskin.benchmark.collect.collect', lambda suite, runs: {})
    monkeypatch.setattr('mmskin.benchmark.comparison.write_comparison', lambda report, root: 'the report')
    monkeypatch.setattr(Run, 'execute', finish)
    return lambda *options: main(['benchmark', str(suite_file), '--work-dir', str(tmp_path / 'out'), *options])


def finish(run):
    folder = run.folder / 'train'
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath('last.pth').write_bytes(b'')
    folder.joinpath('last_checkpoint').write_text('last.pth')
    write_note(run.folder / 'run.json', {})


def test_all_is_well(command, runs, capsys):
    assert command('--processes', '1') == 0
    assert '6 of 6 runs are finished' in capsys.readouterr().out


def test_exit_codes_of_processes_are_known():
    assert spawn(2, [sys.executable, '-c', 'raise SystemExit(3)']) == [3, 3]


def test_a_dead_process_makes_the_command_fail(command, runs, monkeypatch):
    monkeypatch.setattr('mmskin.benchmark.workers.spawn', lambda count, command: [0, -9])
    for run in runs:
        finish(run)
    with pytest.raises(SystemExit, match=r'^1 of 2 processes ended with an error \(exit codes: -9\)$'):
        command('--processes', '2')


def test_runs_that_nobody_has_done_make_the_command_fail(command, runs, monkeypatch):
    monkeypatch.setattr('mmskin.benchmark.workers.work', lambda runs: None)
    with pytest.raises(SystemExit, match='not finished, and held by no process: gated sum, seed 0; '):
        command('--processes', '1')


def test_a_share_is_judged_by_itself(command, runs):
    assert command('--processes', '1', '--shard', '0/2') == 0
    assert not all(run.finished for run in runs)


def test_runs_that_another_process_holds_are_none_of_its_faults(command, runs, monkeypatch, capsys):
    monkeypatch.setattr('mmskin.benchmark.workers.work', lambda runs: None)
    locks = [FileLock(run.folder / 'lock') for run in runs]
    for run, lock in zip(runs, locks, strict=True):
        run.folder.mkdir(parents=True)
        lock.acquire()
    assert command('--processes', '1') == 0
    assert capsys.readouterr().out.endswith('\n0 of 6 runs are finished\n')
    locks[0].release()
    with pytest.raises(SystemExit, match='held by no process: gated sum, seed 0; run the same'):
        command('--processes', '1')


def test_failed_runs_are_named(command, runs, monkeypatch):
    monkeypatch.setattr(Run, 'execute', lambda run: 1 / 0)
    with pytest.raises(SystemExit, match='failed: gated sum, seed 0; no passing, seed 0; '):
        command('--processes', '1')
    with pytest.raises(SystemExit, match='^failed: gated sum, seed 0; no passing, seed 0; [^;]*; [^;]*; each run'):
        command('--report-only')


def test_a_file_as_the_folder_of_results_is_refused_before_anything_trains(command, runs, suite_file, capsys):
    assert command('--processes', '1', '--out', str(suite_file)) == 2
    assert f'{suite_file}: File exists' in capsys.readouterr().err
    assert not any(run.folder.exists() for run in runs)


def test_power_and_a_report_at_once_are_refused(command, capsys):
    assert command('--power', '--report-only') == 2
    assert 'leave out one of --power, --report-only' in capsys.readouterr().err


def test_the_power_where_seeds_agree_on_every_image(command, suite_file, data_root, capsys):
    suite_file.write_text(f"{suite_file.read_text()}\npower = dict(sd={{'seg/JA': 0.0}})\n")
    assert command('--power', '--data-root', str(data_root)) == 0
    assert '| seg/JA | **2** | 0.000 |' in capsys.readouterr().out
