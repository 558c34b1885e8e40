from pathlib import Path

import pytest

from mmskin.benchmark.runs import Run, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.engine.stages import stage_configs

SUITES = sorted((Path(__file__).parents[2] / 'benchmarks' / 'suites').glob('*.py'))
assert SUITES


@pytest.mark.parametrize('path', SUITES, ids=lambda path: path.stem)
def test_every_suite_is_valid(path):
    """Its configs exist, and the metrics that the paper has numbers for are in its table."""
    suite = read_suite(path)
    assert len(suite.seeds) >= (1 if path.stem == 'systems' else 3)
    assert all(set(method.paper) <= set(suite.metrics) for method in suite.methods)


def test_a_suite_is_read(suite_file):
    suite = read_suite(suite_file, 'elsewhere', {'train_cfg.max_epochs': 3})
    assert (suite.name, suite.seeds, suite.data_root) == ('tiny', (0, 1), 'elsewhere')
    assert suite.options['train_cfg.max_epochs'] == 3
    assert suite.options['train_dataloader.batch_size'] == 4
    assert suite.method('gated sum').folder == 'gated_sum'
    assert suite.method('gated sum').paper == {'seg/JA': 0.787}


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ("name='no passing'", "name='gated sum'", 'names that differ'),
        ("name='no passing'", "name='x', weights_of='y'", "weights_of='y'; trained are"),
        ("name='no passing'", "name='x', starts_from='with flips'", "starts_from='with flips'; it can be one of"),
        ("weights_of='gated sum'", "weights_of='gated sum', starts_from='gated sum'", "'with flips' has starts_from="),
        ("name='no passing'", "nome='no passing'", 'name, nome of a method is unknown'),
        ('seeds = [0, 1]', 'seed = 3', 'seed, seeds of a suite'),
        ('seeds = [0, 1]', 'seeds = []', 'of a suite is unknown, missing or empty'),
    ],
)
def test_mistakes_are_named(suite_file, old, new, message):
    suite_file.write_text(suite_file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_suite(suite_file)


def test_missing_files_are_named(suite_file):
    with pytest.raises(FileNotFoundError, match='no such suite'):
        read_suite(suite_file.with_name('none.py'))
    suite_file.write_text(suite_file.read_text().replace('multitask/r18', 'multitask/r19'))
    with pytest.raises(FileNotFoundError, match=r'r19_synthetic\.py: no such config.*no passing'):
        read_suite(suite_file)


def test_a_method_starts_from_anothers_network(suite_file, tmp_path, monkeypatch):
    suite_file.write_text(suite_file.read_text().replace("name='no passing'", "name='later', starts_from='gated sum'"))
    runs = runs_of(read_suite(suite_file), tmp_path / 'out')
    first, later = (next(run for run in runs if run.method.name == name) for name in ('gated sum', 'later'))
    assert not later.ready
    weights = first.folder / 'train' / 'epoch_1.pth'
    for path, text in [
        (weights, ''),
        (weights.parent / 'last_checkpoint', str(weights)),
        (first.folder / 'run.json', ''),
    ]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert later.ready
    trained = []
    monkeypatch.setattr(Run, 'plan', {})
    monkeypatch.setattr('mmskin.benchmark.runs.run_stages', lambda cfg, resume: trained.append(cfg.load_from))
    monkeypatch.setattr('mmskin.benchmark.runs.test_checkpoint', lambda *arguments: 1 / 0)
    (later.folder / 'train').mkdir(parents=True)
    (later.folder / 'train' / 'last_checkpoint').write_text(str(weights))
    with pytest.raises(ZeroDivisionError):
        later.execute()
    assert trained == [str(weights)]


@pytest.mark.parametrize('path', SUITES, ids=lambda path: path.stem)
def test_schedules_end_inside_their_runs(path):
    """The options of a suite that change epochs change the rates too."""
    for run in runs_of(read_suite(path), 'nowhere')[: len(read_suite(path).methods)]:
        for stage in stage_configs(run.config('train')):
            ends = [part.end for part in stage.get('param_scheduler') or () if part.get('by_epoch', True)]
            if path.stem != 'systems':
                assert all(end == stage.train_cfg.max_epochs for end in ends), run.name
            else:
                assert stage.train_cfg.max_epochs == 1, run.name
