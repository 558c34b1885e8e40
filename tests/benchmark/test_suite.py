from itertools import combinations
from pathlib import Path

import pytest

from mmskin.benchmark.collect import collect
from mmskin.benchmark.runs import Run, runs_of
from mmskin.benchmark.suite import read_suite
from mmskin.engine.stages import stage_configs
from mmskin.files import write_note, write_text

SUITES = sorted((Path(__file__).parents[2] / 'suites').glob('*.py'))
assert SUITES


@pytest.mark.parametrize('path', SUITES, ids=lambda path: path.stem)
def test_every_suite_is_valid(path):
    """Its configs exist, and the metrics that the paper has numbers for are in its table."""
    suite = read_suite(path)
    assert len(suite.seeds) >= (1 if path.stem == 'systems' else 3)
    assert all(set(method.paper) <= set(suite.metrics) for method in suite.methods)


def rows(path):
    """Configs and options of a suite's methods by name."""
    return {method.name: (method.config.resolve(), method.options) for method in read_suite(path).methods}


def test_tables_and_systems_have_what_the_introduction_names():
    """A row of two tables is one and the same, since they may share their work folder."""
    tables = [rows(path) for path in SUITES if path.stem in ('table1', 'table2', 'table3')]
    systems = rows(SUITES[0].with_name('systems.py'))
    named = {config for config, _ in systems.values()}
    assert {config for table in tables for config, _ in table.values()} == named
    for one, other in combinations(tables, 2):
        assert all(one[name] == other[name] for name in {*one} & {*other})
    introduction = {name for name in systems if name.endswith(('2017)', '2016)', 'SVM'))}
    assert len(introduction) == 6
    assert introduction <= {*tables[1], *tables[2]}


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
        ("name='no passing'", "name='x', starts_from='x'", "'x' starts from itself"),
        ("weights_of='gated sum'", "weights_of='gated sum', starts_from='gated sum'", "'with flips' has starts_from="),
        ("name='no passing'", "nome='no passing'", 'nome of Method is unknown; it needs config, name'),
        ('seeds = [0, 1]', 'seed = 3', 'seed of Suite is unknown; it needs methods, metrics, seeds'),
        ('seeds = [0, 1]', "seeds = [0, 1]; baseline = 'no'", "baseline='no' is not a method"),
        ('seeds = [0, 1]', "seeds = [0, 1]; may_differ = ['scoring seg']", r"may_differ has \['scoring seg'\]; it can"),
        ('seeds = [0, 1]', "seeds = [0, 1]; may_differ = ['train image']", r"may_differ has \['train image'\]"),
        ('seeds = [0, 1]', 'seeds = 3', 'seeds=3; give a list'),
        ("note='shares its beginning'", "options=['a']", r"options=\['a'\]; give a dict"),
        ("name='no passing'", 'name=1', 'name=1; give a text'),
        ('seeds = [0, 1]', "seeds = [0, '/../../x']", r"seeds=\[0, '/../../x'\]; give a list of whole"),
        ('seeds = [0, 1]', 'seeds = [0, 0]', r'seeds=\[0, 0\] has an entry twice'),
        ('seeds = [0, 1]', "seeds = [0]; margins = {'seg/JA': [1]}", r'margins=.* give a dict with numbers'),
        ('seeds = [0, 1]', 'seeds = [0]; baseline = []', r'baseline=\[\]; give a text'),
        ("name='no passing'", "name='..'", r"the folder of the method '\.\.', '\.\.' is nothing but dots"),
        ("name='no passing'", f"name='{'x' * 300}'", "the folder of the method 'x+', 'x+...' is too long"),
        ('seeds = [0, 1]', 'seeds = [0]; folds = {1: 2}', '1 of Folds is unknown; it needs count'),
        ('seeds = [0, 1]', "seeds = [0]; margins = {'seg/JA': -0.01}", r'margins=.* give 0 or more'),
        ('seeds = [0, 1]', 'seeds = [0]; power = dict(churn=2)', 'churn=2; give 0 to 1'),
        ('seeds = [0, 1]', "seeds = [0]; margins = {1: 0.1, 'x': 0.1}", 'tiny.py: '),
        ("name='no passing'", "name='no passing', paper={'seg/IoU': 1}", r"paper of 'no passing' has \['seg/IoU'\]"),
        ('seeds = [0, 1]', 'seeds = []', 'seeds of Suite is missing or empty'),
        ('seeds = [0, 1]', 'seeds = [0]; power = dict(chrun=0.1)', 'chrun of Assumptions is unknown; it needs nothing'),
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


def test_a_baseline_is_what_all_others_are_compared_with(suite_file):
    suite_file.write_text(suite_file.read_text() + "baseline = 'with flips'\n")
    pairs = [(first.name, second.name) for first, second in read_suite(suite_file).pairs()]
    assert pairs == [('gated sum', 'with flips'), ('no passing', 'with flips')]


def test_methods_have_one_origin_if_they_share_networks_or_their_start(suite_file):
    suite_file.write_text(
        suite_file.read_text().replace("name='no passing'", "name='later', starts_from='gated sum'")
        + "methods.append(dict(name='other', config=methods[0]['config']))\n"
        + "methods.insert(0, dict(name='last', config=methods[0]['config'], starts_from='later'))\n"
    )
    suite = read_suite(suite_file)
    origins = {method.name: suite.origin(method) for method in suite.methods}
    assert origins == {'other': 'other', **dict.fromkeys(('gated sum', 'with flips', 'later', 'last'), 'gated sum')}
    order = [run.method.name for run in runs_of(suite, 'work') if run.seed == 0]
    assert order.index('gated sum') < order.index('later') < order.index('last')


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
    monkeypatch.setattr('mmskin.benchmark.runs.evaluate_checkpoint', lambda *arguments: 1 / 0)
    (later.folder / 'train').mkdir(parents=True)
    (later.folder / 'train' / 'last_checkpoint').write_text(str(weights))
    with pytest.raises(ZeroDivisionError):
        later.execute()
    assert trained == [str(weights)]


def test_a_change_of_the_trainers_settings_is_one_of_the_row_that_tests_its_networks(suite_file, tmp_path, monkeypatch):
    monkeypatch.setattr('mmskin.benchmark.runs.fingerprints', lambda cfg: {})
    flips = next(run for run in runs_of(read_suite(suite_file), tmp_path) if run.method.name == 'with flips')
    plan = {**flips.plan}
    write_note(flips.folder / 'plan.json', plan)
    flips.check_plan()
    other = ("paper={'seg/JA': 0.787}", "options={'optim_wrapper.optimizer.lr': 0.5}")
    suite_file.write_text(suite_file.read_text().replace(*other))
    flips = Run(read_suite(suite_file), flips.method, flips.seed, tmp_path, tmp_path)
    with pytest.raises(ValueError, match='seed0 was begun with other settings'):
        flips.check_plan()
    del plan['trainer']  # as an earlier version wrote it
    write_note(flips.folder / 'plan.json', plan)
    flips.check_plan()


@pytest.mark.parametrize('need', ['starts_from', 'weights_of'])
def test_a_network_that_was_trained_again_is_noticed(suite_file, tmp_path, need):
    suite_file.write_text(suite_file.read_text().replace("name='no passing'", f"name='later', {need}='gated sum'"))
    runs = {run.method.name: run for run in runs_of(read_suite(suite_file), tmp_path)}
    first, later = runs['gated sum'], runs['later']

    def finish(run, **networks):
        write_note(run.folder / 'run.json', {'networks': networks} if networks else {})

    finish(later, tested='b', needed='a')
    later.check_networks()
    for noted in (dict(tested='a', needed=None), {}):
        finish(first, **noted)
        later.check_networks()
    finish(first, tested='c', needed=None)
    with pytest.raises(ValueError, match=r'later.seed1 was made with another network than .*gated_sum.seed1 has now'):
        later.check_networks()
    with pytest.raises(ValueError, match='another network'):
        collect(later.suite, [*runs.values()])
    finish(later)
    later.check_networks()


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


@pytest.mark.parametrize('text', ['', '[]', '{}', 'null', '{"results": 5}', '{"results": {}, "plan": [1]}'])
def test_a_note_that_no_run_left_is_named(text, suite_file, tmp_path):
    run = runs_of(read_suite(suite_file), tmp_path)[0]
    write_text(run.folder / 'run.json', text)
    with pytest.raises(ValueError, match=r'run\.json: (damaged|was changed).*; or delete .*run\.json, and'):
        run.check_settings()
