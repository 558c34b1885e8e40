"""The differences of a report, as a reader sees them."""

from mmskin.benchmark.comparison import differences, notes


def row(metric, first, value, images, both):
    return dict(
        metric=metric,
        first=first,
        second='none',
        value=value,
        images=images,
        images_and_seeds=both,
        verdict='undecided',
    )


REPORT = dict(
    baseline='none',
    level=0.95,
    resamples=100,
    metrics=['cls/AC', 'seg/JA'],
    differences=[
        row('cls/AC', 'gated', 0.0124, (-0.5, 0.5), (-0.01, 0.0304)),
        row('seg/JA', 'gated', -0.02, (-0.03, -0.01), None),
        row('cls/AC', 'blind', 0.0, (-0.1, 0.1), (-0.2, 0.2)),
    ],
)


def test_with_a_baseline_there_is_a_row_for_each_method():
    table, meaning = differences(REPORT)
    assert table.splitlines() == [
        '| minus none | cls/AC | seg/JA |',
        '| --- | --- | --- |',
        '| gated | +0.012 (-0.010 to +0.030) undecided | -0.020 (**-0.030 to -0.010**) undecided |',
        '| blind | 0.000 (-0.200 to +0.200) undecided | – |',
    ]
    assert 'of the 2 here, about 0.1 at most would be so' in meaning
    assert 'single seed are 95% percentiles of 100 bootstrap resamples' in meaning


def test_without_one_there_is_a_row_for_each_pair_and_metric():
    table, meaning = differences(REPORT | dict(baseline=None))
    assert (
        table.splitlines()[2] == '| cls/AC | gated | none | +0.012 | -0.500 to +0.500 | -0.010 to +0.030 | undecided |'
    )
    assert table.count('\n') == 4
    assert "Student's t" in meaning
    assert 'one in twenty at most of those over images and seeds' in meaning


def test_intervals_of_one_seed_claim_nothing_of_another_training():
    alone = [row('cls/AC', 'gated', 0.5, (0.1, 0.9), None)]
    _, meaning = differences(REPORT | dict(differences=alone))
    assert 'whatever another training would give' in meaning
    assert "Student's t" not in meaning
    assert 'would be so' not in meaning


def method(**seeds):
    return dict(device='CPU', note='', seeds=seeds)


def test_a_metric_that_no_run_has_is_said():
    """It may be mistyped; a dash would say that it does not apply."""
    methods = {'gated': method(a=dict(results={'cls/AC': 0.8, 'cls/mAP': 0.7}))}
    report = REPORT | dict(methods=methods, may_differ=[], unfinished=[], partial=[], differences=[])
    assert '- **No run measured seg/JA**; they measured cls/AC, cls/mAP.' in notes(report)


def test_different_versions_are_said():
    new, old = (
        dict(results=dict.fromkeys(REPORT['metrics'], 0.8), made_with=dict(mmskin='0.1.0', torch=version))
        for version in ('2.15', '2.14')
    )
    methods = {
        'gated': method(a=new, b=old),
        'blind': method(a=new, b=new | dict(made_with={})),
        'none': method(a=old, b=old),
    }
    report = REPORT | dict(methods=methods, may_differ=[], unfinished=[], partial=[], differences=[])
    assert notes(report) == (
        '- Time measured on: CPU.\n'
        '- Runs were made with different versions of torch: 2.15 (gated, blind); 2.14 (gated, none).'
    )
    assert 'versions' not in notes(report | dict(methods={'gated': method(a=new, b=new)}))
