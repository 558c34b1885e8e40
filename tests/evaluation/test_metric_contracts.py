"""What every registered metric with numbers per image keeps to; it is tested by being registered."""

from mmskin.evaluation.per_image import PerImageMetric
from mmskin.registry import METRICS
from mmskin.testing import MetricContract

METRICS.import_from_location()
OURS = {name: kind for name, kind in METRICS.module_dict.items() if kind.__module__.startswith('mmskin.')}
EVERY = sorted(name for name, kind in OURS.items() if issubclass(kind, PerImageMetric))
WITHOUT_NUMBERS = {  # and therefore without the contract, by what they do instead
    'ChallengeSubmission': 'writes a submission; tests/evaluation/test_submission.py',
    'ContourSheet': 'draws a sheet of pictures; tests/evaluation/test_contour_sheet.py',
}

for name in EVERY:
    globals()[f'Test{name}'] = type(f'Test{name}', (MetricContract,), dict(cfg=dict(type=name)))


def test_there_are_some():
    assert {'ClassificationMetric', 'SegmentationMetric', 'ISIC2017ClassificationMetric'} <= {*EVERY}


def test_every_metric_is_under_contract_or_has_a_reason_not_to_be():
    """A metric that is no PerImageMetric would slip through otherwise."""
    assert {*OURS} - {*EVERY} == {*WITHOUT_NUMBERS}
